"""Which seeds belong together: those of one study, whose runs differ in their seeds alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from voxseq.base.errors import IntegrityError
from voxseq.base.files import sha256
from voxseq.config.report_run import FinetunedRun, PretrainedRun, ReportRun
from voxseq.plan.outputs import seed_file
from voxseq.report.seeds.model import SeedScores, read_seed

_Run = TypeVar("_Run", FinetunedRun, PretrainedRun)


@dataclass(frozen=True)
class Seeds:
    """The seeds that tables are made of.

    Attributes:
        scores: of each, by rising seed.
        left_out: files that are not used, each with the reason.
    """

    scores: tuple[SeedScores, ...]
    left_out: tuple[str, ...] = ()


def seeds_of(study: ReportRun, inputs: Mapping[str, Path]) -> Seeds:
    """The planned seeds that have finished, and the further ones that agree with them.

    Args:
        study: what was planned, with the files of further seeds.
        inputs: run id → folder, for those of the stage scores.

    Raises:
        IntegrityError: the file of a planned seed is damaged.
    """
    found = {
        seed: read_seed(inputs[run] / seed_file(seed))
        for seed in study.seeds
        if (run := f"scores/s{seed}") in inputs
    }
    left_out = []
    for path, checksum in study.further.items():
        reason = ""
        try:
            scores = read_seed(Path(path))
            reason = _disagreement(study, scores, path, checksum)
        except IntegrityError as error:
            reason = error.what
        if not reason and scores.seed in found:
            reason = f"{path}: seed {scores.seed} is there already"
        if reason:
            left_out.append(reason)
        else:
            found[scores.seed] = scores
    return Seeds(tuple(found[seed] for seed in sorted(found)), tuple(left_out))


def _disagreement(study: ReportRun, scores: SeedScores, path: str, checksum: str) -> str:
    """Why the file of a further seed is not used; empty: it is."""
    if checksum and sha256(Path(path)) != checksum:
        return f"{path}: it changed while the workflow ran"
    if scores.scale != study.scale:
        return f"{path}: it is of scale {scores.scale}, not of {study.scale}"
    if study.study and scores.study != study.study:
        return (
            f"{path}: its runs had another configuration, or other versions of the code, than "
            f"those of this study ({scores.study}, not {study.study})"
        )
    if Path(path).name != Path(seed_file(scores.seed)).name:
        return f"{path}: it holds seed {scores.seed}"
    return ""


def with_further(study: ReportRun, seeds: Seeds) -> ReportRun:
    """The study with the runs of its further seeds as if they had been planned."""
    known = set(study.seeds)
    further = [scores for scores in seeds.scores if scores.seed not in known]
    tasks, methods = set(study.tasks), set(study.methods)
    runs = [run for scores in further for run in scores.runs if run.task in tasks]
    trained = [run for scores in further for run in scores.pretrainings if run.method in methods]
    return study.model_copy(
        update={
            "seeds": tuple(sorted(known | {scores.seed for scores in further})),
            "runs": (*study.runs, *(_plain(run, FinetunedRun) for run in runs)),
            "pretrain_runs": (
                *study.pretrain_runs,
                *(_plain(run, PretrainedRun) for run in trained),
            ),
        }
    )


def _plain(run: _Run, kind: type[_Run]) -> _Run:
    """What the plan says of a run, without its scores."""
    return kind.model_validate({name: getattr(run, name) for name in kind.model_fields})


def of_files(study: ReportRun, paths: Sequence[Path]) -> ReportRun:
    """The study of the seeds in some files, whatever was planned.

    Seeds of the present configuration come first; where there are none, those that agree with the
    first file.

    Args:
        study: for its rows and tables.
        paths: of the files.
    """
    words = []
    for path in paths:
        with suppress(IntegrityError):
            words.append(read_seed(path).study)
    word = study.study if study.study in words else next(iter(words), study.study)
    none = {"seeds": (), "runs": (), "pretrain_runs": ()}
    further = {path.as_posix(): "" for path in paths}
    return study.model_copy(update={**none, "study": word, "further": further})
