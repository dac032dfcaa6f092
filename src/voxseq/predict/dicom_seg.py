"""Masks of a DICOM series as a DICOM-SEG object, which viewers show over the series (highdicom)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from voxseq import __version__
from voxseq.base.errors import ConfigError, DataError
from voxseq.base.files import atomic_path
from voxseq.data.readers.dicom import read_headers
from voxseq.data.readers.stack import arrange
from voxseq.models.bundle import ModelCard
from voxseq.predict.inputs import Case
from voxseq.predict.results import Segmentation

#: Of the objects: "voxseq" and no organisation.
_MANUFACTURER, _SERIAL = "voxseq", "0"
_SERIES_NUMBER = 900
#: Texts of DICOM have at most so many characters.
_LONGEST = 64
#: What an object refers to its slices by; anonymisation often empties them.
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def require_highdicom() -> None:
    """Refuse to go on without highdicom.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--dicom-seg needs highdicom, which is not installed ({error})",
            "pip install 'voxseq[dicom-seg]'",
        ) from None


def write_dicom_seg(
    path: Path, case: Case, found: Segmentation, cards: Sequence[ModelCard]
) -> None:
    """Write the labels of a series as one binary DICOM-SEG object, a segment for each class.

    Args:
        path: of the object.
        case: the series.
        found: its labels on the grid of its slices.
        cards: of the models.

    Raises:
        DataError: as :func:`slices_of`; the headers lack something else that the standard asks for;
            no class was found.
    """
    sources = slices_of(case)
    if not found.labels.any():
        raise DataError(
            f"{case.name}: no class was found, and a DICOM-SEG object needs one",
            "predict it without --dicom-seg",
        )
    try:
        dataset = _object(sources, found, cards)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # A header that lacks what the standard asks for.
        raise DataError(
            f"{case.name}: no DICOM-SEG object can be made of its slices ({error!r})",
            "predict it without --dicom-seg",
        ) from None
    with atomic_path(path) as temporary:
        dataset.save_as(temporary)


def _object(sources: Sequence[Any], found: Segmentation, cards: Sequence[ModelCard]) -> Any:
    """The object, a data set of pydicom."""
    import highdicom
    from pydicom.sr.codedict import codes

    # Axes of labels are column, row, slice.
    masks = np.ascontiguousarray(found.labels.transpose(2, 1, 0))
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=", ".join(card.method for card in cards)[:_LONGEST],
        family=codes.DCM.ArtificialIntelligence,
        version=cards[0].fingerprint[:_LONGEST] or __version__,
    )
    segments = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:_LONGEST],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(found.names, start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=highdicom.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer=_MANUFACTURER,
        manufacturer_model_name=cards[0].network,
        software_versions=__version__,
        device_serial_number=_SERIAL,
        series_description=f"voxseq: {cards[0].task}"[:_LONGEST],
        omit_empty_frames=True,
    )


def slices_of(case: Case) -> list[Any]:
    """The slices of a series in the order of the labels' last axis.

    Raises:
        DataError: they were sheared or are frames of one file, so that their grid is not that of
            the labels; or they lack what an object refers to them by.
    """
    headers = [h for path in case.entry.paths for h in read_headers(case.folder, path)]
    if any(header.frames > 1 for header in headers):
        raise DataError(
            f"{case.name}: the series is one file with many frames",
            "predict it without --dicom-seg",
        )
    stack = arrange(headers, case.entry.path, "position")
    if stack.shifts is not None:
        raise DataError(
            f"{case.name}: the slices of a tilted gantry are sheared, so that labels are not on "
            "their grid",
            "predict it without --dicom-seg",
        )
    slices = [pydicom.dcmread(case.folder / header.path) for header in stack.slices]
    if empty := [tag for tag in _IDENTIFIERS if not all(s.get(tag) for s in slices)]:
        raise DataError(
            f"{case.name}: its slices have no {' and no '.join(empty)}, by which a DICOM-SEG "
            "object refers to them; anonymisation may have removed them",
            "predict it without --dicom-seg, or give the slices new identifiers",
        )
    return slices
