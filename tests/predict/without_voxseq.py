"""Predict with exported bundles where voxseq cannot be imported, and compare with its results.

``python without_voxseq.py FOLDER`` needs torch, monai and nibabel. FOLDER is written by
``python -m tests.helpers.bundles FOLDER``. The last line is "all alike"; else the status is 1.
"""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import nibabel
import numpy as np

#: Least Dice of two masks, and largest difference of two answers.
LEAST, LARGEST = 0.999, 1e-4


def run(folder: Path) -> None:
    """Call the bundle's own command on all images of a folder."""
    names = sorted(p.name for p in folder.glob("*_0.nii.gz"))
    grouped = [sorted(folder.glob(name.replace("_0.nii.gz", "_[0-9].nii.gz"))) for name in names]
    images = [",".join(map(str, paths)) for paths in grouped]
    sys.argv = ["predict.py", *images, "-o", str(folder / "out"), "--device", "cpu"]
    runpy.run_path(str(folder / "bundle/scripts/predict.py"), run_name="__main__")
    # The next bundle has modules of the same name.
    for module in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[module]
    sys.path.remove(str(folder / "bundle"))


def masks_alike(folder: Path) -> bool:
    """Compare masks, and the grids that they lie on."""
    alike = True
    for path in sorted(folder.glob("*_expected.nii.gz")):
        stem = path.name.removesuffix("_expected.nii.gz")
        wanted, found = nibabel.load(path), nibabel.load(folder / "out" / f"{stem}_pred.nii.gz")
        image = nibabel.load(folder / f"{stem}.nii.gz")
        one, other = (np.asarray(mask.dataobj) for mask in (wanted, found))
        same_grid = one.shape == other.shape and np.allclose(image.affine, found.affine, atol=1e-4)
        dice = [
            2 * ((one == k) & (other == k)).sum() / max((one == k).sum() + (other == k).sum(), 1)
            for k in np.unique(one)
        ]
        print(path, "same grid" if same_grid else "ANOTHER GRID", [f"{d:.6f}" for d in dice])
        alike &= same_grid and min(dice) >= LEAST
    return alike


def answers_alike(folder: Path, wanted: dict[str, list[float]]) -> bool:
    """Compare probabilities or numbers."""
    with (folder / "out/predictions.csv").open() as file:
        _, *rows = csv.reader(file)
    found = {name: [float(value) for value in values] for name, *values in rows}
    print(folder, found, wanted)
    return found.keys() == wanted.keys() and all(
        np.allclose(found[name], wanted[name], rtol=LARGEST, atol=LARGEST) for name in wanted
    )


def main() -> int:
    """Compare all cases of the folder that the command line names."""
    sys.modules["voxseq"] = None  # type: ignore[assignment]
    alike = []
    for folder in sorted(Path(sys.argv[1]).resolve().iterdir()):
        run(folder)
        wanted = json.loads((folder / "expected.json").read_text())
        alike.append(answers_alike(folder, wanted) if wanted else masks_alike(folder))
    if not alike or not all(alike):
        return 1
    print("all alike")
    return 0


if __name__ == "__main__":
    sys.exit(main())
