"""Scores of predictions, whoever made them: masks against masks, tables against tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from voxseq.base import processes
from voxseq.base.errors import DataError
from voxseq.base.files import read_text, write_csv
from voxseq.base.lists import table
from voxseq.base.paths import ending_of, files, without_ending
from voxseq.base.progress import track
from voxseq.data.grid import to_ras
from voxseq.data.headers import GRID_TOLERANCE, corner_distance, in_ras
from voxseq.data.volume import Array, Volume
from voxseq.evaluation import classification, regression
from voxseq.evaluation.segmentation import dice_scores, surface_scores_per_class
from voxseq.predict.inputs import ENDINGS, read_file
from voxseq.predict.journal import read_made_by
from voxseq.predict.run import PROBABILITIES, SPREAD, UNCERTAINTY

#: Case ("" of all together), label ("" where there is none), metric, value.
Row = tuple[str, str, str, float]
HEADER = ("case", "label", "metric", "value")
_CASE, _TARGETS = ("case", "image", "subject", "name"), ("target", "label", "class", "value")
_PROBABILITY = "probability"


@dataclass(frozen=True)
class Settings:
    """How masks are scored.

    Attributes:
        names: of the foreground classes 1, 2, …; none: of voxseq's own predictions their names,
            else their numbers.
        tolerance: mm, of the normalised surface Dice.
        ignored: value in the labels of voxels without a known class; None: none.
        surface: whether surfaces are scored.
    """

    names: tuple[str, ...] = ()
    tolerance: float = 2.0
    ignored: int | None = None
    surface: bool = True


@dataclass
class Evaluation:
    """Scores, and the cases that have none.

    Attributes:
        rows: of cases and classes, undefined scores are NaN.
        failed: case → reason.
    """

    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the rows as CSV, as a run's scores.csv."""
        write_csv(path, HEADER, [(*names, f"{value:.9g}") for *names, value in self.rows])

    def means(self) -> list[tuple[str, str, float, int]]:
        """Label, metric, mean over the cases where it is defined, and their number."""
        groups: dict[tuple[str, str], list[float]] = {}
        for _, label, metric, value in self.rows:
            groups.setdefault((label, metric), [])
            if not math.isnan(value):
                groups[label, metric].append(value)
        return [
            (*key, float(np.mean(values)) if values else math.nan, len(values))
            for key, values in groups.items()
        ]


def evaluate(
    predictions: Path, labels: Path, settings: Settings | None = None, workers: int = 0
) -> Evaluation:
    """Score predictions against labels.

    Masks are two files, or two folders in which files belong together by their names, whatever
    their endings; Dice, normalised surface Dice and the 95 % Hausdorff distance (mm) are taken on
    the labels' own grid. Classes and numbers are two CSV tables with a column ``case``.

    Args:
        predictions: files, folder or table.
        labels: likewise; a mask that has no prediction is named.
        settings: how masks are scored.
        workers: processes beside this one.

    Raises:
        DataError: nothing to compare.
        ResourceError: the machine failed.
    """
    if predictions.suffix.lower() == ".csv":
        return _tables(predictions, labels)
    settings = settings or Settings()
    pairs = _pairs(predictions, labels)
    result, scores = Evaluation(), {}
    work = processes.Work[_Pair]("scoring", lambda pair: pair.name, "preprocess")
    found = processes.in_order(partial(_scored, settings), pairs, workers, work)
    for pair, scored in zip(pairs, track(found, "scoring", len(pairs)), strict=True):
        if isinstance(scored, str):
            result.failed[pair.name] = scored
        else:
            scores[pair.name] = scored
    names = settings.names or tuple(read_made_by(predictions).get("labels", ()))
    count = max([len(names), *(max(one, default=0) for one in scores.values())])
    metrics = ["dice", *(("surface_dice", "hd95") if settings.surface else ())]
    for case, classes in scores.items():
        for number in range(1, count + 1):
            label = names[number - 1] if number <= len(names) else str(number)
            of_class = classes.get(number, {})
            result.rows += [(case, label, m, of_class.get(m, math.nan)) for m in metrics]
    return result


@dataclass(frozen=True)
class _Pair:
    """A case's label and its prediction, or why there is none."""

    name: str
    label: Path
    prediction: Path | None


def _pairs(predictions: Path, labels: Path) -> list[_Pair]:
    for path in (predictions, labels):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", "check the path")
    if labels.is_file() and predictions.is_file():
        return [_Pair(without_ending(labels.name), labels, predictions)]
    if labels.is_file() or predictions.is_file():
        raise DataError(
            f"{predictions} and {labels}: a file and a folder", "name two files or two folders"
        )
    # What `voxseq predict` writes beside its masks holds no classes.
    beside = (PROBABILITIES, UNCERTAINTY, SPREAD)
    there = {
        without_ending(path): predictions / path
        for path in files(predictions)
        if ending_of(path, ENDINGS) and path.split("/")[0] not in beside
    }
    wanted = [path for path in files(labels) if ending_of(path, ENDINGS)]
    pairs = [_Pair(n, labels / p, there.get(n)) for p in wanted for n in [without_ending(p)]]
    if not any(pair.prediction for pair in pairs):
        raise DataError(
            f"{labels}: {len(pairs)} masks, none of which has a prediction of its name in "
            f"{predictions}",
            f"give files that belong together one name; endings are {', '.join(ENDINGS)}",
        )
    return pairs


def _scored(settings: Settings, pair: _Pair) -> dict[int, dict[str, float]] | str:
    """Class → metric → score of one case, or why there are none."""
    if pair.prediction is None:
        return "it has no prediction"
    try:
        volumes = [_mask(path) for path in (pair.prediction, pair.label)]
        _require_one_grid(*volumes)
    except DataError as error:
        return str(error)
    prediction, _ = to_ras(volumes[0])
    truth, spacing = to_ras(volumes[1])
    known = truth[truth != settings.ignored] if settings.ignored is not None else truth
    count = max(int(prediction.max()), int(known.max(initial=0)), len(settings.names))
    scores = dice_scores(prediction, truth, count, settings.ignored)
    if settings.surface:
        tolerances = [settings.tolerance] * count
        scores |= surface_scores_per_class(prediction, truth, spacing, tolerances, settings.ignored)
    return {
        number + 1: {metric: float(values[number]) for metric, values in scores.items()}
        for number in range(count)
    }


def _mask(path: Path) -> Volume:
    volume = read_file(path)
    values = volume.array
    whole = np.rint(values)
    if values.min() < 0 or values.max() > 255 or not np.array_equal(whole, values):
        raise DataError(
            f"{path}: values from {values.min():g} to {values.max():g}, expected whole numbers "
            "from 0 to 255",
            "name masks of classes, not images or probabilities",
        )
    return Volume(whole.astype(np.uint8), volume.affine, volume.oriented)


def _require_one_grid(prediction: Volume, label: Volume) -> None:
    """Refuse masks of different grids; the direction of their axes may differ."""
    grids = []
    for volume in (prediction, label):
        shape = volume.array.shape
        grids.append(in_ras(volume.affine, shape) if volume.oriented else (volume.affine, shape))
    (one, shape), (two, wanted) = grids
    if shape != wanted:
        raise DataError(f"the prediction has {shape} voxels, the label {wanted}")
    distance = corner_distance(one, two, shape)
    if prediction.oriented and label.oriented and distance > GRID_TOLERANCE * min(label.spacing):
        raise DataError(f"prediction and label lie {distance:.3g} mm apart")


def _tables(predictions: Path, labels: Path) -> Evaluation:
    made, given = _read(predictions), _read(labels)
    key = _column(given, labels, _CASE)
    column = _column(given, labels, [t for t in _TARGETS if t != key])
    targets = {line[key]: line[column] for line in given}
    case = _column(made, predictions, _CASE)
    made = [line for line in made if line[case] in targets]
    result = Evaluation()
    absent = set(targets) - {line[case] for line in made}
    result.failed = dict.fromkeys(sorted(absent), "it has no prediction")
    if not made:
        raise DataError(
            f"{predictions}: no case of {labels} is there", "compare their columns of names"
        )
    wanted = [targets[line[case]] for line in made]
    if "value" in made[0]:
        values = _numbers(predictions, [line["value"] for line in made])
        scores = regression.scores(_numbers(labels, wanted), values)
        result.rows = [("", "", metric, value) for metric, value in scores.items()]
        return result
    names, chances = _probabilities(predictions, made)
    target = _classes(labels, wanted, names)
    scores = classification.scores(target, chances)
    result.rows = [("", "", metric, value) for metric, value in scores.items()]
    if len(names) > 2:
        areas = classification.auc_per_class(target, chances)
        result.rows += [("", n, "auc", float(a)) for n, a in zip(names, areas, strict=True)]
    return result


def _read(path: Path) -> list[dict[str, str]]:
    try:
        header, *lines = table(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as a table ({error})") from None
    rows = [dict(zip(header, line, strict=False)) for line in lines]
    short = next((n for n, row in enumerate(rows, 2) if len(row) < len(header)), None)
    if short is not None or not rows:
        raise DataError(f"{path}: " + (f"line {short} is too short" if short else "no line"))
    return rows


def _column(rows: Sequence[Mapping[str, str]], path: Path, names: Sequence[str]) -> str:
    found = next((name for name in names if name in rows[0]), None)
    if found is None:
        raise DataError(
            f"{path}: its columns are {', '.join(rows[0])}", f"name one of them {names[0]}"
        )
    return found


def _numbers(path: Path, words: Sequence[str]) -> Array:
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    if not np.isfinite(values).all():
        raise DataError(f"{path}: a number is not finite")
    return values


def _probabilities(path: Path, rows: Sequence[Mapping[str, str]]) -> tuple[list[str], Array]:
    """Names of the classes, and their probabilities (n, K)."""
    if _PROBABILITY in rows[0]:
        one = _numbers(path, [row[_PROBABILITY] for row in rows])
        names: list[Any] = read_made_by(path.parent).get("labels") or ["0", "1"]
        return [str(name) for name in names], np.stack([1 - one, one], axis=1)
    columns = [name for name in rows[0] if name.startswith(f"{_PROBABILITY}_")]
    if not columns:
        raise DataError(
            f"{path}: no column of a prediction among {', '.join(rows[0])}",
            "expected value, probability (of class 1), or probability_CLASS for each class",
        )
    chances = np.stack([_numbers(path, [r[c] for r in rows]) for c in columns], axis=1)
    return [name.removeprefix(f"{_PROBABILITY}_") for name in columns], chances


def _classes(path: Path, words: Sequence[str], names: Sequence[str]) -> Array:
    """Classes (n,) from their names or numbers."""
    known = {name: number for number, name in enumerate(names)}
    numbers = {str(number): number for number in range(len(names))}
    found = [known.get(word, numbers.get(word)) for word in words]
    if None in found:
        strange = words[found.index(None)]
        expected = f"expected one of {', '.join(names)}, or 0 to {len(names) - 1}"
        raise DataError(f"{path}: class {strange!r}, {expected}")
    return np.array(found)
