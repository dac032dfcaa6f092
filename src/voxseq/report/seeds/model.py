"""The file of a seed: scores and predictions of all its runs, by case, and where they come from.

The same runs give the same bytes: nothing in it tells when or where they were done. Each run is one
line. An undefined number is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from voxseq.base.errors import IntegrityError
from voxseq.base.failures import read_named
from voxseq.base.files import read_text, write_text
from voxseq.config.base import Model
from voxseq.config.report_run import FinetunedRun, PretrainedRun

#: One for each case, in their order.
Numbers = tuple[float | None, ...]
#: Lists of the file whose entries have a line each.
_LISTED = ("tasks", "runs", "pretrainings")


class TaskCases(Model):
    """Test cases of a task.

    Attributes:
        cases: names.
        subjects: the patient of each case; empty: each is a patient.
        targets: class or number of each case; empty where they are images.
    """

    cases: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    targets: Numbers = ()

    @property
    def people(self) -> tuple[str, ...]:
        """The patient of each case."""
        return self.subjects or self.cases


class ScoredRun(FinetunedRun):
    """Scores of one run.

    Attributes:
        fingerprint: of the run.
        sizes: number of cases for training ("n_train"), validation and test.
        cases: places in the task's list of the cases that this run has; ``None``: all.
        scores: metric → label ("" where there is none) → score of each case, 0..1, or mm.
        whole: label, metric and value of scores that no single case has, such as AUC.
        predicted: column → what was predicted of each case.
    """

    fingerprint: str
    sizes: dict[str, int] = Field(default_factory=dict)
    cases: tuple[int, ...] | None = None
    scores: dict[str, dict[str, Numbers]] = Field(default_factory=dict)
    whole: tuple[tuple[str, str, float | None], ...] = ()
    predicted: dict[str, Numbers] = Field(default_factory=dict)


class TrainedRun(PretrainedRun):
    """What a pre-training logged of itself.

    Attributes:
        fingerprint: of the run.
        validations: step, loss, spread of features and their effective rank.
    """

    fingerprint: str
    validations: tuple[tuple[int, float | None, float | None, float | None], ...] = ()


class SeedScores(Model):
    """Everything that the tables need of a seed.

    Attributes:
        format: of the file.
        data: "phantoms" where the data sets are generated, else empty.
        scale: name of the study.
        study: one word for all that was trained but for its seed.
        seed: number of the chain.
        versions: of voxseq, PyTorch and Python.
        tasks: name → cases.
    """

    format: Literal[1] = 1
    data: str = ""
    scale: str
    study: str
    seed: int
    versions: dict[str, str]
    tasks: dict[str, TaskCases]
    runs: tuple[ScoredRun, ...]
    pretrainings: tuple[TrainedRun, ...]


def write_seed(path: Path, scores: SeedScores) -> None:
    """Write the file of a seed."""
    content = scores.model_dump(mode="json", exclude_defaults=True) | {"format": scores.format}
    head = {key: value for key, value in content.items() if key not in _LISTED}
    lines = [f"{_text(key)}: {_text(value)}" for key, value in sorted(head.items())]
    tasks = content["tasks"]
    lines.append(_block("tasks", "{}", (f"{_text(n)}: {_text(t)}" for n, t in tasks.items())))
    lines += [_block(key, "[]", map(_text, content[key])) for key in _LISTED[1:]]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _block(key: str, brackets: str, entries: Any) -> str:
    return f"{_text(key)}: {brackets[0]}\n" + ",\n".join(entries) + f"\n{brackets[1]}"


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def read_seed(path: Path) -> SeedScores:
    """Read the file of a seed.

    Raises:
        IntegrityError: it is missing or damaged, or its parts do not agree.
    """
    try:
        with read_named(path):
            found = path.stat()
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error}", _NEXT) from None
    return _read(path.resolve(), found.st_size, found.st_mtime_ns)


_NEXT = "restore it from version control, or have it made again by the stage scores"


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> SeedScores:
    """A file of this size and time, which many tables read."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}", _NEXT) from None
    return parse_seed(text, str(path))


def parse_seed(text: str, name: str) -> SeedScores:
    """The scores that the text of a file holds.

    Args:
        text: of the file.
        name: of the file, for messages.

    Raises:
        IntegrityError: it is damaged, or its parts do not agree.
    """
    try:
        scores = SeedScores.model_validate_json(text)
        _check(scores)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        message = f"{name} is not a seed's scores: {place}: {first['msg']}"
        raise IntegrityError(message, _NEXT) from None
    except ValueError as error:
        raise IntegrityError(f"{name} is not a seed's scores: {error}", _NEXT) from None
    return scores


def _check(scores: SeedScores) -> None:
    """Refuse lists of other lengths than the cases that they are of.

    Raises:
        ValueError: naming the run.
    """
    for name, task in scores.tasks.items():
        for values in (task.subjects, task.targets):
            if values and len(values) != len(task.cases):
                raise ValueError(f"task {name}: {len(values)} entries of {len(task.cases)} cases")
    for run in scores.runs:
        if run.task not in scores.tasks:
            raise ValueError(f"{run.id}: its task has no list of cases")
        count = len(scores.tasks[run.task].cases)
        places = range(count) if run.cases is None else run.cases
        if any(not 0 <= place < count for place in places):
            raise ValueError(f"{run.id}: a case that its task does not have")
        lists = [values for by_label in run.scores.values() for values in by_label.values()]
        for values in (*lists, *run.predicted.values()):
            if len(values) != len(places):
                raise ValueError(f"{run.id}: {len(values)} numbers of {len(places)} cases")


def by_case(scores: SeedScores, run: ScoredRun) -> Mapping[str, tuple[Any, ...]]:
    """Case, subject and target of what a run has numbers of; targets are ``None`` for images."""
    task = scores.tasks[run.task]
    places = range(len(task.cases)) if run.cases is None else run.cases
    targets = task.targets or (None,) * len(task.cases)
    return {
        "case": tuple(task.cases[place] for place in places),
        "subject": tuple(task.people[place] for place in places),
        "target": tuple(targets[place] for place in places),
    }
