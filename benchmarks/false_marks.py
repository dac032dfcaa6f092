"""False marks, coverage and power of the comparisons of ``voxseq.evaluation.statistics``.

Tables of nine rows are simulated: 64 questions, eight other rows in seven tasks and their average.
In points of Dice, cases have an sd of 12 with a long lower tail, case × row 2, case × row × seed 4;
row × seed is the setting's. For an AUC, there are eight columns of a true area of 0.75 with halves
of both classes, and the seeds' sd is in points of AUC.

    python -m benchmarks.false_marks [--tables 500] [--into docs/statistics.md]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxseq.base.files import write_text
from voxseq.evaluation.comparison import Comparison
from voxseq.evaluation.statistics import (
    SIGNIFICANT,
    compare,
    compare_auc,
    compare_average,
    compare_pair,
    holm,
)

Array = NDArray[np.float64]
ROWS, TASKS = 9, 7
_CASE_SD, _ROW_CASE_SD, _RESIDUAL_SD = 12.0, 2.0, 4.0
#: Distance of the classes for an AUC of 0.75 with unit variances, and how a point of AUC moves it.
_DISTANCE, _PER_POINT = 0.9539, 0.01 / 0.2247
#: Shares of the variance of a latent score: case, row × case, row × case × seed.
_LATENT = (0.5, 0.2, 0.3)
_MARKS = ("<!-- simulation -->", "<!-- end -->")


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        seeds: number of seeds.
        cases: test cases of each task.
        sd: standard deviation over seeds in points, of each row, or one for all.
        score: Dice, Dice with every pair compared alone, or AUC.
        common: whether a seed does the same to all rows.
        own_cases: whether each seed has other cases, as phantoms of its own.
        lead: points by which the reference is truly better.
    """

    seeds: int
    cases: int
    sd: float | tuple[float, ...]
    score: Literal["dice", "pair", "auc"] = "dice"
    common: bool = False
    own_cases: bool = False
    lead: float = 0.0

    @property
    def about_seeds(self) -> str:
        """The standard deviation over seeds in words."""
        if self.common:
            return f"{self.sd:g}, common to rows"
        if isinstance(self.sd, float | int):
            return f"{self.sd:g}"
        counts = {value: self.sd.count(value) for value in dict.fromkeys(self.sd)}
        return ", ".join(f"{value:g} ({count})" for value, count in counts.items())


@dataclass(frozen=True)
class Outcome:
    """What was found in the tables of a setting.

    Attributes:
        coverage: share of 95 % intervals that have the true difference in them.
        any_mark: share of tables with a mark.
        marks: share of comparisons marked.
        average_marks: share marked of the comparisons of the average, if they are all questions.
        width: mean width of an interval, in points.
    """

    coverage: float
    any_mark: float
    marks: float
    average_marks: float
    width: float


UNEQUAL = (
    (5.0, *[1.0] * (ROWS - 1)),
    (3.0, *[1.0] * (ROWS - 1)),
    (*[5.0] * 5, *[1.0] * 4),
)
EQUAL = tuple(
    Setting(seeds, cases, sd)
    for seeds in (3, 5, 10)
    for cases in (16, 60)
    for sd in (0.0, 1.0, 3.0, 5.0)
)


def simulate(setting: Setting, tables: int) -> Outcome:
    """Draw tables and compare their rows; the same setting gives the same tables."""
    rng = np.random.default_rng([setting.seeds, setting.cases, int(10 * setting.lead)])
    draw = auc_table if setting.score == "auc" else dice_table
    covered, marked, on_average, widths = [], [], [], []
    for _ in range(tables):
        columns = draw(rng, setting)
        found = [one for column in columns for one in column]
        truth = setting.lead / 100
        covered.append([one.low <= truth <= one.high for one in found])
        marked.append(_marked(found))
        on_average.append(_marked(columns[-1]))
        widths.append([one.high - one.low for one in found])
    any_mark = np.any(marked, axis=1)
    return Outcome(
        float(np.mean(covered)),
        float(np.mean(any_mark)),
        float(np.mean(marked)),
        float(np.mean(on_average)),
        100 * float(np.mean(widths)),
    )


def dice_table(rng: np.random.Generator, setting: Setting) -> list[list[Comparison]]:
    """Comparisons of the first row with the others in each task and in the average of tasks."""
    tasks = [_dice(rng, setting) for _ in range(TASKS)]
    if setting.score == "pair":
        pairs = [[compare_pair(task[0], other)[0] for other in task[1:]] for task in tasks]
        alone = [compare_average([task[[0, row]] for task in tasks], 0) for row in range(1, ROWS)]
        return [*pairs, [one for found in alone for one in found]]
    return [*(compare(task, 0) for task in tasks), compare_average(tasks, 0)]


def auc_table(rng: np.random.Generator, setting: Setting) -> list[list[Comparison]]:
    """Comparisons of the first row with the others in eight columns."""
    target = np.arange(setting.cases) % 2
    sizes = (1, 1, setting.cases), (ROWS, 1, setting.cases), (ROWS, setting.seeds, setting.cases)
    columns = []
    for _ in range(TASKS + 1):
        latent = sum(
            rng.normal(0, math.sqrt(share), size)
            for share, size in zip(_LATENT, sizes, strict=True)
        )
        distance = _DISTANCE + _PER_POINT * _seed_effects(rng, setting)
        distance[0] += _PER_POINT * setting.lead
        probabilities = 1 / (1 + np.exp(-(latent + distance * target)))
        columns.append(compare_auc(target, probabilities, 0))
    return columns


def _dice(rng: np.random.Generator, setting: Setting) -> Array:
    """Scores of one task, shape (rows, seeds, cases, 1)."""
    seeds = setting.seeds if setting.own_cases else 1
    count = seeds * setting.cases
    cases = _CASE_SD * (1 - rng.exponential(size=count))
    rows = rng.normal(0, _ROW_CASE_SD, (ROWS, 1, count))
    residual = rng.normal(0, _RESIDUAL_SD, (ROWS, setting.seeds, count))
    points = 60 + cases + rows + residual + _seed_effects(rng, setting)
    points[0] += setting.lead
    if setting.own_cases:
        own = np.repeat(np.arange(seeds), setting.cases) == np.arange(seeds)[:, None]
        points = np.where(own, points, np.nan)
    return np.asarray(points[..., None] / 100)


def _seed_effects(rng: np.random.Generator, setting: Setting) -> Array:
    """Points by which a seed moves a row, shape (rows, seeds, 1)."""
    drawn = rng.normal(size=(1 if setting.common else ROWS, setting.seeds, 1))
    sd = np.broadcast_to(np.asarray(setting.sd, dtype=np.float64), (ROWS,))
    return np.asarray(drawn * sd[:, None, None])


def _marked(found: Iterable[Comparison]) -> list[bool]:
    return [p < SIGNIFICANT for p in holm([one.p for one in found])]


def document(tables: int, processes: int) -> str:
    """The tables of docs/statistics.md."""
    unequal = [Setting(s, c, sd) for s in (3, 5, 10) for c in (16, 60) for sd in UNEQUAL]
    common = [Setting(s, c, 3.0, common=True) for s in (3, 5, 10) for c in (16, 60)]
    own = [
        Setting(s, c, sd, own_cases=True) for s in (3, 5, 10) for c in (16, 60) for sd in (0.0, 3.0)
    ]
    pairs = [Setting(s, 16, sd, "pair") for s in (3, 5, 10) for sd in (0.0, 3.0, UNEQUAL[0])]
    auc = [Setting(s, 60, sd, "auc") for s in (3, 5, 10) for sd in (0.0, 1.0, 3.0, 5.0, UNEQUAL[0])]
    power = [
        Setting(seeds, 16, sd, score, lead=lead)
        for seeds in (3, 5, 10)
        for sd in (1.0, 3.0)
        for lead in (3.0, 6.0, 10.0)
        for score in ("dice", "pair")
    ]
    fewer = math.ceil(tables / 5)
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:

        def outcomes(settings: Sequence[Setting], count: int) -> list[Outcome]:
            return list(pool.map(partial(simulate, tables=count), settings))

        parts = [
            *_block("Dice, equal methods", "seeds", EQUAL, outcomes, tables),
            *_block("Dice, a seed moves all rows alike", "seeds", common, outcomes, tables),
            *_block("Dice, cases of its own for each seed", "seeds", own, outcomes, tables),
            *_block("Dice, unequal spread over seeds", "seeds (rows)", unequal, outcomes, tables),
            *_block("Dice, every pair alone", "seeds (rows)", pairs, outcomes, tables),
            *_block("AUC", "seeds (rows)", auc, outcomes, tables),
            *_power(power, outcomes(power, fewer), fewer),
        ]
    return "\n".join(parts)


def _block(
    title: str,
    of: str,
    settings: Sequence[Setting],
    outcomes: Callable[[Sequence[Setting], int], list[Outcome]],
    tables: int,
) -> list[str]:
    lines = [
        f"### {title}",
        "",
        f"{tables} tables for each line.",
        "",
        f"| seeds | cases | sd over {of} | coverage | any false mark | marks | width, points |",
        "|--:|--:|---|--:|--:|--:|--:|",
    ]
    for setting, found in zip(settings, outcomes(settings, tables), strict=True):
        lines.append(
            f"| {setting.seeds} | {setting.cases} | {setting.about_seeds} | "
            f"{found.coverage:.3f} | {found.any_mark:.3f} | {found.marks:.2%} | {found.width:.1f} |"
        )
    return [*lines, ""]


def _power(settings: Sequence[Setting], found: Sequence[Outcome], tables: int) -> list[str]:
    """One line for each setting, with the rule and with every pair alone side by side."""
    lines = [
        "### Power",
        "",
        f"Share of the 64 comparisons marked where the reference leads all other rows, 16 cases, "
        f"{tables} tables for each line; in the last column the eight of the average alone.",
        "",
        "| seeds | sd over seeds | lead, points | marked | every pair alone | average of tasks |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    pairs = zip(settings[::2], found[::2], found[1::2], strict=True)
    lines += [
        f"| {setting.seeds} | {setting.about_seeds} | {setting.lead:g} | {rule.marks:.2f} | "
        f"{alone.marks:.2f} | {rule.average_marks:.2f} |"
        for setting, rule, alone in pairs
    ]
    return [*lines, ""]


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=500, help="simulated for each line")
    parser.add_argument("--into", type=Path, help="page with a marked place for them")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    text = document(given.tables, given.processes)
    if given.into is None:
        print(text)
        return
    begin, end = _MARKS
    page = given.into.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{given.into}: no lines {begin} and {end} to put the tables between")
    write_text(given.into, pattern.sub(lambda _: f"{begin}\n{text}{end}", page))


if __name__ == "__main__":
    main()
