"""BraTS 2023: four aligned MRI contrasts per subject.

``…/BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f}.nii.gz``: the last number of the
folder is the time point, so the subject is what stands before it. Segmentations are not used.
Options: ``contrasts``; ``exclude``, a regular expression of paths to leave out.
"""

from __future__ import annotations

from pathlib import Path

from voxseq.catalogue import DataSet
from voxseq.data.layouts.nifti_tree import matching
from voxseq.data.volume import Scan

EXPECTED = "…/BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz"


def scan(folder: Path, dataset: DataSet) -> Scan:
    """List the contrasts of every subject; see :class:`Scan`."""
    pattern = (
        r"(?P<group>(?:.*/)?(?P<subject>BraTS-[A-Za-z]+-\d+)-(?P<time>\d+))/(?P=subject)-"
        rf"(?P<image>(?P=time)-(?P<contrast>{'|'.join(dataset.options['contrasts'])}))"
        r"\.nii\.gz"
    )
    exclude = dataset.options.get("exclude")
    return matching(folder, [(pattern, dataset.modality)], EXPECTED, exclude)
