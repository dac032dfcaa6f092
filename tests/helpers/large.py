"""Checks and prepares one large CT in a process of its own, and prints the memory it took.

Called as ``python large.py FOLDER X Y Z SLOPE ROLE``.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import nibabel
import numpy as np

from tests.helpers import trees


def write(folder: Path, shape: tuple[int, int, int], slope: float) -> None:
    """An MSD task of one case: a noisy body with a label, written slice by slice."""
    place = folder / "msd" / "Task09_Spleen"
    rng = np.random.default_rng(0)
    x, y = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body, organ = x**2 + y**2 < 0.95, (x - 0.2) ** 2 + (y - 0.1) ** 2 < 0.05
    for part, dtype in (("imagesTr", np.int16), ("labelsTr", np.uint8)):
        header = nibabel.Nifti1Header()
        header.set_data_shape(shape)
        header.set_data_dtype(dtype)
        header.set_sform(np.diag([0.7, 0.7, 1.0, 1.0]), code=1)
        header["vox_offset"] = 352
        header.set_slope_inter(slope if dtype is np.int16 else 1, 0)
        (place / part).mkdir(parents=True)
        with gzip.open(place / part / "a.nii.gz", "wb", compresslevel=1) as file:
            file.write(header.binaryblock + bytes(4))
            for _ in range(shape[2]):
                noise = rng.standard_normal(shape[:2], dtype=np.float32) * 20
                plane = np.where(body, 40, -1000) + noise if dtype is np.int16 else organ
                file.write(np.rint(plane).astype(dtype).T.tobytes())
    item = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    (place / "dataset.json").write_text(json.dumps({"training": [item]}))


def peak() -> int:
    """Largest memory of this process so far, in bytes; that of its parent does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Write, check, prepare, print."""
    folder, role = Path(sys.argv[1]), sys.argv[6]
    x, y, z = (int(n) for n in sys.argv[2:5])
    write(folder / "data", (x, y, z), float(sys.argv[5]))
    before = peak()
    split = {"seed": 0, "ratio": [1.0, 0.0, 0.0], "validation_fraction": 0.1}
    common = (folder / "data", folder, "task09_spleen")
    trees.run_download(*common, trees.SEGMENTATION, split=split)
    checking = peak()
    data = {"window": [-57, 175], "spacing": [1, 1, 1]} if role == "task" else None
    trees.run_preprocess(*common, data)
    print(json.dumps({"before": before, "checking": checking, "preparing": peak()}))


if __name__ == "__main__":
    main()
