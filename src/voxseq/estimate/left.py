"""Time that a study still takes, from how long its own runs took here.

A run that has not been done takes, per step, what the runs took that are most like it: those that
differ in seed or weights alone, else those of its method and task, else of its task, else of its
kind. What no run here tells is estimated for a GPU, where the study asks for one.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from voxseq.config import Config
from voxseq.engine.states import RunState
from voxseq.estimate.counts import COUNTS
from voxseq.plan.model import Plan, Run, Settings

_LOG = logging.getLogger("voxseq.estimate")
#: Parts of a configuration that do not change how long a run takes.
_FREE = ("seed", "ratio", "pretrained")
#: Kinds of runs whose computation can be estimated.
_ESTIMATED = ("pretrain", "finetune", "probe")


@dataclass(frozen=True)
class TimeLeft:
    """Time until a study is done.

    Attributes:
        seconds: of the runs of which it can be told, when as many are done at once as now.
        unknown: stages of the others.
        is_estimated: whether some of it is an estimate instead of measured here.
    """

    seconds: float
    unknown: tuple[str, ...] = ()
    is_estimated: bool = False


def time_left(
    config: Config, plan: Plan, states: Sequence[RunState], measured: Mapping[str, float]
) -> TimeLeft:
    """Time until all runs are finished.

    Args:
        config: the configuration.
        plan: its plan.
        states: how far its runs are.
        measured: fingerprint → seconds of runs that were done here.
    """
    rates = _rates(states, measured)
    seconds, unknown = 0.0, []
    for found in states:
        if found.state == "finished":
            continue
        own = _own_time(found)
        if own is None:
            rate = next((rates[key] for key in _likenesses(found.run) if key in rates), None)
            if rate is None:
                unknown.append(found.run)
                continue
            own = rate * _steps(found.run) * _share_left(found)
        seconds += own
    hours = _estimated(config, plan, unknown)
    seconds += 3600 * sum(hours.values())
    at_once = max(1, sum(found.state == "running" for found in states))
    stages = dict.fromkeys(run.stage for run in unknown if run.id not in hours)
    return TimeLeft(seconds / at_once, tuple(stages), bool(hours))


def _rates(states: Sequence[RunState], measured: Mapping[str, float]) -> dict[str, float]:
    """Likeness → mean seconds per step of the runs that were done, or are under way."""
    found: dict[str, list[float]] = defaultdict(list)
    for state in states:
        seconds = measured.get(state.run.fingerprint) if state.state == "finished" else None
        rate = None if seconds is None else seconds / _steps(state.run)
        own = _own_time(state)
        if own and _share_left(state):
            rate = own / (_steps(state.run) * _share_left(state))
        if rate is not None:
            for key in _likenesses(state.run):
                found[key].append(rate)
    return {key: sum(rates) / len(rates) for key, rates in found.items()}


def _likenesses(run: Run) -> Iterator[str]:
    """Names of what runs have in common, from the closest to the loosest."""
    settings: Settings = run.settings
    recipe = settings.get("recipe") or {}
    same = {key: value for key, value in settings.items() if key not in _FREE}
    method, task = settings.get("method"), settings.get("task")
    for common in ([same], [method, task], [None, task], [None, recipe.get("type")], []):
        yield json.dumps([run.action, *common], sort_keys=True)


def _steps(run: Run) -> int:
    """Steps of a training; 1 for other work."""
    settings: Settings = run.settings
    recipe = settings.get("recipe") or {}
    if not _is_training(run):
        return 1
    return int(settings.get("steps") or recipe.get("steps") or 1)


def _is_training(run: Run) -> bool:
    return run.action in ("pretrain", "finetune")


def _own_time(found: RunState) -> float | None:
    """Seconds that a run under way says it takes."""
    if found.state != "running" or not _tells_its_steps(found):
        return None
    seconds = found.record.get("seconds_left")
    return None if seconds is None else float(seconds)


def _share_left(found: RunState) -> float:
    """Share of a run's steps that are to be done."""
    if not _tells_its_steps(found) or not found.record["total"]:
        return 1.0
    return float(1 - found.record["done"] / found.record["total"])


def _tells_its_steps(found: RunState) -> bool:
    """Whether a record is about the whole work, not about what comes between a training's steps."""
    is_whole = not _is_training(found.run) or found.record.get("doing") == "training"
    return is_whole and "done" in found.record


def _estimated(config: Config, plan: Plan, unknown: Sequence[Run]) -> dict[str, float]:
    """Hours of runs of which nothing was measured, for the usual GPU; none without one."""
    asked = config.execution
    if not asked.pretrain.gpu or not any(run.action in _ESTIMATED for run in unknown):
        return {}
    if not COUNTS.exists():
        _LOG.warning("counting the operations of all networks: a minute, once")
    from voxseq.estimate.estimate import estimate

    found = estimate(config, plan, kept=COUNTS)
    return {run.id: found.hours(run) for run in unknown if run.action in _ESTIMATED}
