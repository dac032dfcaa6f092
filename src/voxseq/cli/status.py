"""How far a study is: finished, running, waiting and failed runs, and the time left."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.cli.options import load, overlay_option, params_option, study_argument

if TYPE_CHECKING:
    from voxseq.engine.states import RunState, State
    from voxseq.estimate.left import TimeLeft

#: Columns where the output is not a terminal.
_WIDTH = 120
#: States in the order of the columns, and of the runs that are listed one by one.
_COLUMNS: tuple[State, ...] = ("finished", "running", "waiting", "stopped", "failed")
_LISTED = ("running", "stopped", "failed")


@click.command()
@params_option
@overlay_option
@click.option("--json", "as_json", is_flag=True, help="Every run with its state and progress.")
@study_argument
def status(params: Path, overlays: tuple[Path, ...], as_json: bool) -> None:
    """Show how far STUDY is, also while it runs: steps, loss, speed, time left, failures.

    STUDY is the name of a file in studies/; without it, the study of params.yaml is meant.
    """
    from voxseq.engine.journal import seconds_of_runs
    from voxseq.engine.states import states_of
    from voxseq.engine.workspace import Workspace
    from voxseq.estimate.left import time_left
    from voxseq.plan import build_plan
    from voxseq.study.launch import require_workspace

    config = load(params, overlays)
    if not params.is_file():
        # Of a study that stands alone everything would seem to wait here.
        require_workspace(Path.cwd())
    workspace = Workspace(Path.cwd(), build_plan(config))
    states = states_of(workspace)
    left = time_left(config, workspace.plan, states, seconds_of_runs(workspace.history))
    if as_json:
        click.echo(json.dumps(_content(config.scale, states, left), indent=2))
    else:
        _print(config.scale, states, left)


def _content(scale: str, states: Sequence[RunState], left: TimeLeft) -> dict[str, object]:
    runs = [
        {
            **{"run": found.run.id, "stage": found.run.stage, "state": found.state},
            **{"progress": dict(found.record), "log": found.log and str(_relative(found.log))},
        }
        for found in states
    ]
    told = {"seconds_left": round(left.seconds), "stages_of_unknown_time": left.unknown}
    return {"scale": scale, **told, "runs": runs}


def _print(scale: str, states: Sequence[RunState], left: TimeLeft) -> None:
    from rich.console import Console

    console = Console(
        width=None if sys.stdout.isatty() else _WIDTH, highlight=False, markup=False, soft_wrap=True
    )
    counts = Counter(found.state for found in states)
    counted = [f"{counts[state]} {state}" for state in _COLUMNS[1:] if counts[state]]
    total = f"{counts['finished']} of {len(states)} runs finished"
    console.print(f"scale {scale}: {', '.join([total, *counted])}")
    if counts["finished"] < len(states):
        console.print(_left_in_words(left))
    console.print(_stages(states))
    for found in states:
        if found.state in _LISTED:
            console.print(f"{found.state:8} {found.run.id}{_told(found)}")
            if found.state != "running" and found.log is not None:
                console.print(f"{'':8} log: {_relative(found.log)}")


def _stages(states: Sequence[RunState]) -> object:
    """Table with a row for each stage."""
    from rich.table import Table

    table = Table("stage", box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for stage in dict.fromkeys(found.run.stage for found in states):
        counts = Counter(found.state for found in states if found.run.stage == stage)
        table.add_row(stage, *(str(counts[column] or "-") for column in _COLUMNS))
    return table


def _told(found: RunState) -> str:
    """What its record says about a run."""
    from voxseq.base.progress import in_words

    if found.state == "running":
        words = in_words(found.record)
        return f": {found.record.get('doing', 'working')}, {words}" if words else ": beginning"
    return f": {found.reason.splitlines()[0]}" if found.reason else ""


def _left_in_words(left: TimeLeft) -> str:
    from voxseq.base.progress import duration

    source = "partly an estimate" if left.is_estimated else "as runs took here"
    if not left.unknown:
        return f"time left: about {duration(left.seconds)}, {source}"
    if not left.seconds:
        return "time left: unknown until a first training is finished"
    unknown = (
        f"the time of {', '.join(left.unknown)} is unknown until a first run of each is finished"
    )
    return f"time left: more than {duration(left.seconds)}, {source}; {unknown}"


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
