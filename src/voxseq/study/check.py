"""What would keep a study from working, or make its scores worth little: said before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxseq.base.words import several, were
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config.datasets import DataConfig
from voxseq.study.division import Division
from voxseq.study.look import Look

#: Fewer subjects than that cannot be divided; fewer than the second give scores of few cases.
LEAST_SUBJECTS, FEW_SUBJECTS = 3, 20
#: Fewer images than that teach an encoder little.
FEW_IMAGES = 20
#: Test cases below which an interval is wide.
_FEW_TESTS = 5
#: A structure with fewer voxels in an image is easily lost by resampling.
_FEW_VOXELS = 20
_SHOWN = 3
#: Share of usable images below which a run ends; studies keep the default.
LEAST_USABLE: float = DataConfig.model_fields["min_valid_fraction"].default


@dataclass(frozen=True)
class Finding:
    """Something about the images that matters to the study.

    Attributes:
        text: what, and what to do about it.
        is_fatal: whether the study cannot be done so.
    """

    text: str
    is_fatal: bool = False


def findings(look: Look, division: Division, *, pretrain_only: bool) -> Iterator[Finding]:
    """All that matters, what is fatal first.

    Args:
        look: at the images.
        division: of the subjects.
        pretrain_only: whether labels play no part.
    """
    found = [*_images(look)]
    if pretrain_only:
        found += _few_images(look)
    else:
        # Without labels there is nothing to divide.
        found += [*(_splits(look, division) if look.kind else ()), *_labels(look)]
    yield from sorted(found, key=lambda finding: not finding.is_fatal)


def _images(look: Look) -> Iterator[Finding]:
    unreadable = look.unreadable
    if unreadable:
        shown = "; ".join(reason for _, reason in unreadable[:_SHOWN])
        tried = len(unreadable) + len(look.opened)
        few = len(look.opened) < LEAST_USABLE * tried - 1e-9
        yield Finding(
            f"{len(unreadable)} of {several(tried, 'image')} that {were(tried)} tried cannot be "
            f"used: {shown}. {_asked(few)}",
            is_fatal=(few and look.is_whole) or 2 * len(unreadable) > tried,
        )
    for remark in look.remarks[:_SHOWN]:
        yield Finding(remark)
    if look.dataset.modality == "MRI" and look.is_ct:
        yield Finding("the intensities look like Hounsfield units: is this CT? (--modality CT)")
    if look.dataset.modality == "CT" and not look.is_ct:
        yield Finding(
            "the intensities do not look like Hounsfield units, which CT is expected to have; "
            "--modality MRI takes any numbers"
        )


def _asked(few: bool) -> str:
    """What becomes of images that are not usable."""
    if few:
        return (
            f"A study ends where less than {LEAST_USABLE:.0%} are usable "
            "(data.min_valid_fraction): mend or remove the others"
        )
    return "Such images are set aside; data.min_valid_fraction says how many may be"


def _few_images(look: Look) -> Iterator[Finding]:
    if len(look.entries) < 2:
        yield Finding("one image is not enough to pre-train on: name a folder with more", True)
    elif len(look.entries) < FEW_IMAGES:
        yield Finding(
            f"{len(look.entries)} images teach an encoder little; more images help more than more "
            "steps"
        )


def _splits(look: Look, division: Division) -> Iterator[Finding]:
    sizes = division.sizes
    subjects = len({entry.subject for entry in look.of_task})
    if subjects < LEAST_SUBJECTS:
        yield Finding(
            f"{several(subjects, 'subject')} cannot be divided into training, validation and "
            "test cases: "
            f"{LEAST_SUBJECTS} are the least; --pretrain-only leaves the labels out",
            is_fatal=True,
        )
        return
    empty = [name for name in (TRAIN, VAL, TEST) if not sizes[name]]
    if empty:
        yield Finding(f"the {empty[0]} split has no subject: correct the lists", is_fatal=True)
    elif division.lacking and len(look.classes) > 1:
        part, name = next(iter(division.lacking.items()))
        yield Finding(
            f"no {part} image is of the class {name}: each part of the split needs every class; "
            "add images, join classes, or name the parts yourself",
            is_fatal=True,
        )
    elif subjects < FEW_SUBJECTS or sizes[TEST] < _FEW_TESTS:
        yield Finding(
            f"few subjects: scores come from {sizes[TEST]} of them, and weights are selected on "
            f"{sizes[VAL]}; expect wide intervals"
        )


def _labels(look: Look) -> Iterator[Finding]:
    match look.kind:
        case "segmentation":
            yield from _structures(look)
        case "classification":
            yield from _classes(look)
        case "regression":
            yield from _numbers(look)
        case _:
            yield Finding(
                "there are no labels to fine-tune on: name them (--labels), or leave fine-tuning "
                "out (--pretrain-only)",
                is_fatal=True,
            )


def _structures(look: Look) -> Iterator[Finding]:
    unlabelled = sum(not facts.voxels for facts in look.opened)
    tried = len(look.opened) + len(look.unreadable)
    if unlabelled:
        few = len(look.opened) - unlabelled < LEAST_USABLE * tried - 1e-9
        yield Finding(
            f"{unlabelled} of {several(len(look.opened), 'image')} without a segmentation. "
            f"{_asked(few)}",
            is_fatal=few and look.is_whole,
        )
    if not look.structures or not any(look.voxels.get(value) for value in look.structures):
        yield Finding("the segmentations show nothing but background", is_fatal=True)
        return
    for value, name in look.structures.items():
        stated = look.names
        if stated and value not in stated:
            yield Finding(
                f"label {value} occurs in {several(look.holding[value], 'image')}, but the data "
                "set names "
                f"{', '.join(f'{v} {n}' for v, n in stated.items())}: name it there, or correct "
                "the files",
                is_fatal=True,
            )
        elif value not in look.voxels:
            opened = len(look.opened)
            yield Finding(
                f"no image shows {name} (label {value}), of {opened} that {were(opened)} opened; a "
                "structure that no training case shows ends the study"
            )
        elif look.voxels[value] < _FEW_VOXELS * look.holding[value]:
            held = several(round(look.voxels[value] / look.holding[value]), "voxel")
            yield Finding(
                f"{name} (label {value}) has {held} in an image: check that it is no slip of the "
                "hand"
            )


def _classes(look: Look) -> Iterator[Finding]:
    counts = look.classes
    if len(counts) < 2:
        (only,) = counts or (0,)
        yield Finding(
            f"all images are of the class {look.groups.get(only, only)}: there is nothing to learn",
            is_fatal=True,
        )
        return
    for value, name in look.groups.items():
        if counts.get(value, 0) < LEAST_SUBJECTS:
            yield Finding(
                f"class {name} has {several(counts.get(value, 0), 'image')}, but training, "
                "validation and test need one each: join classes, or leave it out",
                is_fatal=True,
            )
    if min(counts.values()) * 10 < max(counts.values()):
        yield Finding("some classes are ten times as frequent as others: look at the class scores")


def _numbers(look: Look) -> Iterator[Finding]:
    values = {entry.value for entry in look.entries if entry.value is not None}
    if len(values) < 2:
        yield Finding("all images have the same number: there is nothing to learn", is_fatal=True)
