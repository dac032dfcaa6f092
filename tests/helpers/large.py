"""Checks and prepares CTs in a process of its own, and prints the memory that they took.

Called as ``python -m tests.helpers.large FOLDER ROLE SLOPE [whole]``.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import nibabel
import numpy as np

from tests.helpers import trees
from voxseq.data import checks, grid, slabs, thumbnail
from voxseq.data.readers import files, nifti

#: A large CT, and small parts of one; with these, slabs are an eighth as large as well.
WHOLE = (512, 512, 1000)
SHAPES = ((192, 192, 80), (256, 256, 160))
SHRUNK = 8
SLABS = (
    *((slabs, "VOXELS"), (grid, "VOXELS"), (checks, "_HASHED"), (thumbnail, "_SLAB")),
    *((files, "_PIECE"), (nifti, "_PIECE")),
)


def write(folder: Path, shape: tuple[int, int, int], slope: float) -> None:
    """An MSD task of one case: a noisy body with a label, the same slice over and over."""
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
        noise = rng.standard_normal(shape[:2], dtype=np.float32) * 20
        plane = np.where(body, 40, -1000) + noise if dtype is np.int16 else organ
        packed = gzip.compress(np.rint(plane).astype(dtype).T.tobytes(), compresslevel=1)
        with (place / part / "a.nii.gz").open("wb") as file:
            file.write(gzip.compress(header.binaryblock + bytes(4)))
            # A file of many parts is as good as one in one part, and made at once.
            for _ in range(shape[2]):
                file.write(packed)
    item = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    (place / "dataset.json").write_text(json.dumps({"training": [item]}))


def peak() -> int:
    """Largest memory of this process so far, in bytes; that of its parent does not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Check and prepare a tiny CT, then others; print the peak after each."""
    folder, role, slope = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    is_whole = sys.argv[4:] == ["whole"]
    if not is_whole:
        for module, name in SLABS:
            setattr(module, name, getattr(module, name) // SHRUNK)
    data = {"window": [-57, 175], "spacing": [1, 1, 1]} if role == "task" else None
    split = {"seed": 0, "ratio": [1.0, 0.0, 0.0], "validation_fraction": 0.1}
    peaks = []
    for number, shape in enumerate(((48, 48, 20), *((WHOLE,) if is_whole else SHAPES))):
        place = folder / str(number)
        write(place / "data", shape, slope)
        common = (place / "data", place, "task09_spleen")
        trees.run_download(*common, trees.SEGMENTATION, split=split)
        trees.run_preprocess(*common, data)
        peaks.append(peak())
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
