"""Whether a task has what it needs: cases to learn from, to select weights with and to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from voxseq.base.errors import DataError
from voxseq.catalogue.splits import TEST, TRAIN, VAL
from voxseq.config.task_types import TaskType
from voxseq.data.targets import TARGETS, Held

#: What every task here uses.
ALL_SPLITS = (TRAIN, VAL, TEST)


def require_scorable(
    name: str,
    kind: TaskType,
    splits: Sequence[str],
    held: Sequence[Held],
    wanted: Collection[int] = (),
    needed: Sequence[str] = ALL_SPLITS,
) -> None:
    """Refuse cases on which a task cannot be trained, selected and scored.

    Args:
        name: of whatever holds the cases, for the message.
        kind: type of the task.
        splits: part of each case.
        held: what each case holds, see :class:`voxseq.data.targets.Target`.
        wanted: classes that the training cases must show.
        needed: splits that are looked at.

    Raises:
        DataError: a split is empty; a split of a classification lacks a class that it needs; no
            case of a split of a segmentation has a foreground; the training cases lack a class; or
            all cases of a split of a regression have one number.
    """
    counts = Counter(splits)
    problems = []
    for split in needed:
        of_split = [one for s, one in zip(splits, held, strict=True) if s == split]
        found = sorted({number for numbers in of_split for number in numbers})
        if not of_split:
            problems.append(f"the {split} split has no case")
        else:
            problems += TARGETS[kind].lacks(split, found, wanted)
    if problems:
        sizes = ", ".join(f"{split} {counts[split]}" for split in ALL_SPLITS)
        raise DataError(
            f"{name}: its {len(splits)} cases ({sizes}) are not enough for a {kind}: "
            f"{'; '.join(problems)}",
            "add cases, or change data.split_ratio, the lists of the split or the labels and "
            "merge_labels; set_aside.csv of the download shows what was rejected",
        )
