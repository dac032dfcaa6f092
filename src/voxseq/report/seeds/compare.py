"""Whether another machine, or another day, gave the same: seeds compared run by run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxseq.report.seeds.model import ScoredRun, SeedScores, TrainedRun, parse_seed, read_seed


@dataclass(frozen=True)
class Unlike:
    """A run that is not what another file says.

    Attributes:
        run: its id.
        reason: in words.
    """

    run: str
    reason: str


def committed(root: Path, path: Path, revision: str = "HEAD") -> SeedScores | None:
    """The file of a seed as git has it, or as it is where there is no git; ``None``: there is none.

    Args:
        root: the workspace.
        path: of the file, relative to it.
        revision: of git.

    Raises:
        IntegrityError: it is damaged.
    """
    words = ["git", "-C", str(root), "show", f"{revision}:./{path.as_posix()}"]
    if (root / ".git").exists():
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        return parse_seed(done.stdout, f"{revision}:{path}") if done.returncode == 0 else None
    return read_seed(root / path) if (root / path).is_file() else None


def unlike(own: SeedScores, other: SeedScores) -> Iterator[Unlike]:
    """Runs of ``own`` that the other has not, has of another fingerprint or with other numbers."""
    found = {run.id: run for run in _all(other)}
    for run in _all(own):
        one = found.get(run.id)
        if one is None:
            yield Unlike(run.id, "it is not in the committed file")
        elif run.fingerprint != one.fingerprint:
            yield Unlike(
                run.id,
                "another configuration or version of the code: fingerprint "
                f"{run.fingerprint}, committed is {one.fingerprint}",
            )
        elif run != one or _cases(own, run) != _cases(other, one):
            yield Unlike(run.id, f"other numbers: {_difference(run, one)}")


def _all(scores: SeedScores) -> list[ScoredRun | TrainedRun]:
    return [*scores.pretrainings, *scores.runs]


def _cases(scores: SeedScores, run: ScoredRun | TrainedRun) -> object:
    return scores.tasks[run.task] if isinstance(run, ScoredRun) else None


def _numbers(run: ScoredRun | TrainedRun) -> dict[tuple[object, ...], float | None]:
    """Every number of a run by its place."""
    if isinstance(run, TrainedRun):
        return {
            ("validation", step, place): value
            for step, *values in run.validations
            for place, value in enumerate(values)
        }
    found: dict[tuple[object, ...], float | None] = {
        (metric, label): value for label, metric, value in run.whole
    }
    for metric, by_label in run.scores.items():
        for label, values in by_label.items():
            found |= {(metric, label, place): value for place, value in enumerate(values)}
    for column, values in run.predicted.items():
        found |= {(column, place): value for place, value in enumerate(values)}
    return found


def _difference(run: ScoredRun | TrainedRun, other: ScoredRun | TrainedRun) -> str:
    one, two = _numbers(run), _numbers(other)
    both = [(one[key], two[key]) for key in one.keys() & two.keys()]
    gaps = [abs(a - b) for a, b in both if a is not None and b is not None and a != b]
    if one.keys() != two.keys() or not gaps:
        return "other cases, or undefined numbers in other places"
    return f"{len(gaps)} of {len(one)}, the largest difference is {max(gaps):.3g}"
