"""BraTS 2023: four aligned MRI contrasts a subject.

``…/BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f}.nii.gz``: the last number of the
folder is the time point, so the subject is what stands before it. Segmentations are not used.
Options: ``contrasts``; ``exclude``, a regular expression of paths to leave out.
"""

from __future__ import annotations

import re
from pathlib import Path

from voxseq.base.paths import files
from voxseq.catalogue import DataSet
from voxseq.data.layouts.nifti_tree import unique
from voxseq.data.readers import nifti
from voxseq.data.readers.files import nothing_found
from voxseq.data.volume import Entry, Scan, Volume


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the contrasts of every subject; see :class:`Scan`."""
    contrasts = "|".join(dataset.options["contrasts"])
    pattern = re.compile(
        r"(?P<place>.*/)?(?P<group>(?P<subject>BraTS-[A-Za-z]+-\d+)-(?P<time>\d+))/"
        rf"(?P=group)-(?P<contrast>{contrasts})\.nii(?:\.gz)?"
    )
    exclude = dataset.options.get("exclude")
    entries = []
    for path in files(folder):
        match = pattern.fullmatch(path)
        if match is None or (exclude and re.search(exclude, path)):
            continue
        entries.append(
            Entry(
                subject=match["subject"],
                image=f"{match['time']}-{match['contrast']}",
                path=path,
                modality=dataset.modality,
                contrast=match["contrast"],
                group=(match["place"] or "") + match["group"],
            )
        )
    if not entries:
        raise nothing_found(folder, "…/BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz")
    return Scan(tuple(unique(entries)))


def read_image(folder: Path, entry: Entry) -> Volume:
    """Read one contrast."""
    return nifti.read(folder, entry.path)


def read_label(folder: Path, entry: Entry) -> Volume | None:
    """Segmentations are not used in pre-training."""
    return None
