"""Training, validation and test subjects of a study, so that each part can be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from voxseq.catalogue.splits import TEST, TRAIN, VAL, hold_out, ratio_split
from voxseq.config.datasets import DataConfig
from voxseq.study.look import Look

PARTS = (TRAIN, VAL, TEST)
#: Shares that are tried after the usual ones, where validation or test would lack a class, and
#: seeds of the draw.
_SHARES, _SEEDS = ((0.6, 0.2, 0.2), (0.5, 0.25, 0.25)), 50
Ratio = tuple[float, float, float]


@dataclass(frozen=True)
class Division:
    """How subjects are divided.

    Attributes:
        sizes: part → its subjects.
        ratio: shares of the parts.
        seed: of the draw.
        lacking: part → class that none of its images has.
    """

    sizes: Mapping[str, int]
    ratio: Ratio
    seed: int
    lacking: Mapping[str, str]


def divide(look: Look, data: DataConfig) -> Division:
    """Divide as the study will: by the data set's own lists, else at random.

    Of a classification every part must have every class, which few subjects and many classes do not
    always give: then other draws and shares are tried.

    Args:
        look: at the images.
        data: the usual shares and seed.
    """
    first: Division | None = None
    for ratio, seed in _draws(look, data):
        parts = _parts(look, ratio, seed, data.validation_fraction)
        lacking = _lacking(look, parts)
        counts = Counter(parts.values())
        found = Division({name: counts[name] for name in PARTS}, ratio, seed, lacking)
        if not lacking:
            return found
        first = first or found
    assert first is not None, "the usual draw is among those that are tried"
    return first


def _draws(look: Look, data: DataConfig) -> Iterator[tuple[Ratio, int]]:
    yield data.split_ratio, data.split_seed
    if look.kind == "classification" and not any(entry.split for entry in look.entries):
        for ratio in (data.split_ratio, *_SHARES):
            yield from ((ratio, seed) for seed in range(_SEEDS))


def _parts(look: Look, ratio: Ratio, seed: int, validation: float) -> dict[str, str]:
    """Part of every subject."""
    listed = {entry.subject: entry.split for entry in look.of_task}
    if not any(listed.values()):
        return ratio_split(listed, ratio, seed)
    if VAL not in listed.values():
        training = [subject for subject, part in listed.items() if part == TRAIN]
        listed |= dict.fromkeys(hold_out(training, validation, seed), VAL)
    return listed


def _lacking(look: Look, parts: Mapping[str, str]) -> dict[str, str]:
    if look.kind != "classification":
        return {}
    held: dict[str, set[int]] = {name: set() for name in PARTS}
    for entry in look.entries:
        held[parts[entry.subject]].add(entry.label)
    absent = {part: sorted({*look.groups} - values) for part, values in held.items()}
    return {part: look.groups[values[0]] for part, values in absent.items() if values}
