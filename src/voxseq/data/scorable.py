"""Whether a task has what it needs: cases to learn from, to select weights with and to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from voxseq.base.errors import DataError
from voxseq.catalogue.splits import TEST, TRAIN, VAL

#: What every task here uses.
ALL_SPLITS = (TRAIN, VAL, TEST)
#: Classes of every classification here.
_BOTH = [0, 1]


def require_scorable(
    name: str,
    kind: str,
    splits: Sequence[str],
    classes: Sequence[Collection[int]],
    wanted: Collection[int] = (),
    needed: Sequence[str] = ALL_SPLITS,
) -> None:
    """Refuse cases on which a task cannot be trained, selected and scored.

    Args:
        name: of whatever holds the cases, for the message.
        kind: "segmentation" or "classification".
        splits: part of each case.
        classes: classes of each case: its own, or all that its segmentation holds.
        wanted: classes of a segmentation that the training cases must show.
        needed: splits that are looked at.

    Raises:
        DataError: a split is empty; a split of a classification lacks a class; no case of a split
            of a segmentation has a foreground; or the training cases lack a class.
    """
    counts = Counter(splits)
    problems = []
    for split in needed:
        held = [c for s, c in zip(splits, classes, strict=True) if s == split]
        found = sorted({number for numbers in held for number in numbers})
        problems += [f"the {split} split has no case"] if not held else _lacks(kind, split, found)
    shown = {n for s, held in zip(splits, classes, strict=True) if s == TRAIN for n in held}
    if TRAIN in needed and any(shown):
        problems += [f"no case of the train split has class {n}" for n in sorted({*wanted} - shown)]
    if problems:
        sizes = ", ".join(f"{split} {counts[split]}" for split in ALL_SPLITS)
        raise DataError(
            f"{name}: its {len(splits)} cases ({sizes}) are not enough for a {kind}: "
            f"{'; '.join(problems)}",
            "add cases, or change data.split_ratio, the lists of the split or the labels and "
            "merge_labels; set_aside.csv of the download shows what was rejected",
        )


def _lacks(kind: str, split: str, found: list[int]) -> list[str]:
    if kind == "classification" and found != _BOTH:
        reason = "there is nothing to learn" if split == TRAIN else "AUC is undefined"
        held = f"the cases of the {split} split have the classes {found}, expected {_BOTH}"
        return [f"{held}: {reason} with one class"]
    if kind == "segmentation" and not any(found):
        reason = "there is nothing to learn" if split == TRAIN else "its Dice is undefined"
        return [f"no case of the {split} split has a foreground voxel: {reason}"]
    return []
