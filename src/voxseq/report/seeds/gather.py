"""Stage "scores": one file with the scores of all runs of a seed."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxseq.base.environment import environment
from voxseq.config.report_run import FinetunedRun, PretrainedRun, ScoresRun
from voxseq.plan.outputs import seed_file
from voxseq.report.escape import PHANTOM_DATA
from voxseq.report.reading import SCORE_COLUMNS, read_csv, read_record, run_file
from voxseq.report.seeds.model import (
    Numbers,
    ScoredRun,
    SeedScores,
    TaskCases,
    TrainedRun,
    write_seed,
)

if TYPE_CHECKING:
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.report.seeds")
SCORES_CSV, PREDICTIONS_CSV, METRICS_CSV = "scores.csv", "predictions.csv", "metrics.csv"
#: Digits of the score of a case and of a prediction, and of a score of a whole split.
_DIGITS, _WHOLE_DIGITS = 6, 9
_VERSIONS = ("voxseq", "torch", "python")
_SIZES = ("n_train", "n_val", "n_test")
_LOGGED = ("loss", "feature_sd", "effective_rank")


@dataclass
class _Cases:
    """The cases of a task, in the order in which its runs name them."""

    subjects: dict[str, str] = field(default_factory=dict)
    targets: dict[str, float | None] = field(default_factory=dict)

    def add(self, frame: pd.DataFrame) -> None:
        """Add the cases of a run's table."""
        for case, subject in zip(frame["case"], frame["subject"], strict=True):
            self.subjects.setdefault(case, subject)
        if "target" in frame:
            for case, target in zip(frame["case"], frame["target"], strict=True):
                self.targets.setdefault(case, _rounded(target, _DIGITS))

    def model(self) -> TaskCases:
        """The cases as the file has them."""
        cases, subjects = tuple(self.subjects), tuple(self.subjects.values())
        targets = tuple(self.targets.get(case) for case in cases) if self.targets else ()
        own = () if subjects == cases else subjects
        return TaskCases(cases=cases, subjects=own, targets=targets)


def execute(context: RunContext[ScoresRun]) -> None:
    """Write ``scores/seed-N.json`` from what the runs of the seed have written.

    Raises:
        IntegrityError: a table of a run that cannot be read or lacks a column.
    """
    config = context.config
    write_seed(context.out / seed_file(config.seed), seed_scores(config, context.inputs))


def seed_scores(config: ScoresRun, inputs: Mapping[str, Path]) -> SeedScores:
    """Scores of those runs of a seed that have finished.

    Args:
        config: the seed and its runs.
        inputs: run id → folder.

    Raises:
        IntegrityError: as :func:`execute`.
    """
    scored = [run for run in config.runs if run_file(inputs, run.id, SCORES_CSV) is not None]
    if len(scored) < len(config.runs):
        _LOG.warning("%d of %d runs are missing", len(config.runs) - len(scored), len(config.runs))
    tables = {run.id: _tables(run, inputs) for run in scored}
    cases: dict[str, _Cases] = {}
    for run in scored:
        for table in tables[run.id]:
            cases.setdefault(run.task, _Cases()).add(table[table["case"] != ""])
    tasks = {name: found.model() for name, found in sorted(cases.items())}
    versions = environment()
    return SeedScores(
        data=PHANTOM_DATA if config.phantoms else "",
        scale=config.scale,
        study=config.study,
        seed=config.seed,
        versions={name: versions[name] for name in _VERSIONS},
        tasks=tasks,
        runs=tuple(
            _scored(run, config.fingerprints[run.id], tables[run.id], tasks[run.task], inputs)
            for run in scored
        ),
        pretrainings=tuple(
            _trained(run, config.fingerprints[run.id], inputs)
            for run in config.pretrain_runs
            if run_file(inputs, run.id, METRICS_CSV) is not None
        ),
    )


def _tables(run: FinetunedRun, inputs: Mapping[str, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and predictions; the latter without rows where the run has none."""
    paths = [run_file(inputs, run.id, name) for name in (SCORES_CSV, PREDICTIONS_CSV)]
    assert paths[0] is not None
    columns = tuple(name for name in SCORE_COLUMNS if name != "subject")
    scores = _with_subjects(read_csv(paths[0], columns, optional=("subject",)))
    if paths[1] is None:
        return scores, pd.DataFrame(columns=["case", "subject"])
    return scores, _with_subjects(read_csv(paths[1], ("case", "target"), others=True))


def _with_subjects(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with the patient of each case, who is the case where the table names none."""
    if "subject" in frame:
        named = frame["subject"].where(frame["subject"] != "", frame["case"])
        return frame.assign(subject=named)
    return frame.assign(subject=frame["case"])


def _scored(
    run: FinetunedRun,
    fingerprint: str,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    task: TaskCases,
    inputs: Mapping[str, Path],
) -> ScoredRun:
    scores, predictions = tables
    own = scores[scores["case"] != ""]
    present = {*own["case"], *predictions["case"]}
    places = [place for place, case in enumerate(task.cases) if case in present]
    named = [task.cases[place] for place in places]
    by_metric: dict[str, dict[str, Numbers]] = {}
    for (metric, label), part in own.groupby(["metric", "label"], sort=False):
        values = _in_order(part["case"], part["value"], named)
        by_metric.setdefault(str(metric), {})[str(label)] = values
    whole = scores[scores["case"] == ""]
    columns = [c for c in predictions.columns if c not in ("case", "subject", "target")]
    sizes = read_record(inputs, run.id, "summary.json")
    return ScoredRun(
        **run.model_dump(),
        fingerprint=fingerprint,
        sizes={name: int(sizes[name]) for name in _SIZES if name in sizes},
        cases=None if len(places) in (0, len(task.cases)) else tuple(places),
        scores=by_metric,
        whole=tuple(
            (label, metric, _rounded(value, _WHOLE_DIGITS))
            for label, metric, value in whole[["label", "metric", "value"]].itertuples(index=False)
        ),
        predicted={c: _in_order(predictions["case"], predictions[c], named) for c in columns},
    )


def _in_order(cases: Iterable[Any], values: Iterable[Any], named: list[str]) -> Numbers:
    """Values of cases in the order of the names; the first counts where a case occurs twice."""
    found: dict[str, float | None] = {}
    for case, value in zip(cases, values, strict=True):
        found.setdefault(case, _rounded(value, _DIGITS))
    return tuple(found.get(case) for case in named)


def _rounded(value: float, digits: int) -> float | None:
    """A number as the file has it."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _trained(run: PretrainedRun, fingerprint: str, inputs: Mapping[str, Path]) -> TrainedRun:
    path = run_file(inputs, run.id, METRICS_CSV)
    assert path is not None
    metrics = read_csv(path, ("step", "split", "name", "value"))
    chosen = metrics[(metrics["split"] == "val") & metrics["name"].isin(_LOGGED)]
    chosen = chosen.drop_duplicates(["step", "name"], keep="last")
    wide = chosen.pivot(index="step", columns="name", values="value").sort_index()
    wide = wide.reindex(columns=list(_LOGGED))
    validations = tuple(
        (int(step), *(_rounded(value, _DIGITS) for value in values))
        for step, *values in wide.itertuples()
    )
    return TrainedRun(**run.model_dump(), fingerprint=fingerprint, validations=validations)
