"""The command line: thin, and quick to start because heavy parts are imported where used."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq import __version__
from voxseq.base.devices import DEVICES, USUAL
from voxseq.base.errors import Interrupted, VoxseqError
from voxseq.base.failures import of_a_command
from voxseq.base.logs import open_streams, say_last
from voxseq.cli import picture, predict, results, seeds, status, study, upkeep, workspaces
from voxseq.cli.configuration import config
from voxseq.cli.data import data
from voxseq.cli.export import export
from voxseq.cli.options import check_stages, load, overlay_option, params_option, study_argument
from voxseq.cli.sections import Sections

if TYPE_CHECKING:
    from voxseq.config import Config
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import Plan, Run

#: Exit status of a run that stopped on request after writing its checkpoint (EX_TEMPFAIL).
RETRY = 75
WINDOWS = (
    "voxseq does not run on Windows, whose file locks and signals are others\n"
    "  next: use WSL 2 (`wsl --install`), where it runs as on Linux; see docs/installing.md"
)
#: Of click. On wide terminals a command's line is not broken.
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Sections, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="voxseq")
def cli() -> None:
    """Pre-train on your own 3D CT and MRI, fine-tune, predict, and see whether it helped."""
    from voxseq.plan.code_versions import require_own_code

    require_own_code(Path.cwd())


@click.command()
@params_option
@overlay_option
@click.option("--stage", help="Only this stage.")
@click.option("--json", "as_json", is_flag=True, help="Every run with its configuration.")
@click.option("--scale", help="Estimate the cost of workflow/scales/SCALE.yaml, or of the demo.")
@click.option(
    "--runs", "as_runs", is_flag=True, help="With --scale: list the runs, not their cost."
)
@click.option(
    "--device",
    type=click.Choice(list(DEVICES)),
    default=USUAL,
    show_default=True,
    help="GPU that the estimate is for.",
)
@click.option(
    "--assume-tflops",
    type=click.FloatRange(min=0, min_open=True),
    help="Rate that matrix products sustain on the GPU at hand  [default: a share of its peak]",
)
@click.option(
    "--into",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --scale: put the tables into the marked places of this page.",
)
@study_argument
def plan(
    params: Path,
    overlays: tuple[Path, ...],
    stage: str | None,
    as_json: bool,
    scale: str | None,
    as_runs: bool,
    device: str,
    assume_tflops: float | None,
    into: Path | None,
) -> None:
    """Check the configuration of STUDY, or params.yaml, and print its runs or their expected cost.

    STUDY is a file in studies/.
    """
    from voxseq.cli.plan_estimate import overlay_of
    from voxseq.plan import build_plan

    if stage is not None:
        check_stages(stage)
    first = () if scale is None else overlay_of(scale)
    loaded = load(params, (*first, *overlays))
    built = build_plan(loaded)
    if as_json:
        asked = (r for r in built.runs.values() if stage in (None, r.stage))
        runs = [{**vars(r), "config": r.settings} for r in asked]
        click.echo(json.dumps(runs, indent=2))
    elif scale is None or as_runs:
        _print_plan(built, stage)
    else:
        _print_estimate(loaded, built, stage, device, assume_tflops, into)


def _print_estimate(
    config: Config,
    built: Plan,
    stage: str | None,
    device: str,
    tflops: float | None,
    into: Path | None,
) -> None:
    from voxseq.base.files import write_text
    from voxseq.cli.plan_estimate import WIDTH, print_sections, with_estimate
    from voxseq.cli.plan_tables import misfits, sections
    from voxseq.estimate.counts import COUNTS
    from voxseq.estimate.estimate import estimate
    from voxseq.estimate.rates import Assumptions

    used = Assumptions(DEVICES[device], config.execution.tf32, tflops)
    found = estimate(config, built, used, COUNTS)
    parts = sections(config, found, None if into else stage)
    if into is None:
        print_sections(parts)
    else:
        page = with_estimate(into.read_text(encoding="utf-8"), config.scale, parts)
        write_text(into, page)
        click.echo(f"{into}: tables of scale {config.scale} written")
    for text in misfits(config, found):
        click.echo(click.wrap_text(f"warning: {text}", WIDTH, subsequent_indent="  "), err=True)


def _print_plan(built: Plan, stage: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from voxseq.engine.workspace import Workspace

    workspace = Workspace(Path.cwd(), built)
    table = Table("run", "job", "fingerprint", "state", box=None, pad_edge=False)
    runs = [r for r in built.runs.values() if stage in (None, r.stage)]
    states = [_state(workspace, run) for run in runs]
    for run, state in zip(runs, states, strict=True):
        table.add_row(run.id, f"{run.stage}/{run.job}", run.fingerprint, state)
    width = None if sys.stdout.isatty() else 160
    console = Console(width=width)
    console.print(table)
    jobs = {(r.stage, r.job) for r in runs}
    running = f", {states.count('running')} running" if "running" in states else ""
    console.print(
        f"{len(runs)} runs in {len(jobs)} jobs, {states.count('finished')} finished{running}, "
        f"scale {built.scale}"
    )


def _state(workspace: Workspace, run: Run) -> str:
    from voxseq.engine.states import state_of

    state = state_of(workspace, run).state
    return state if state in ("finished", "running") else "to do"


@click.command()
@click.argument("stage")
@click.argument("job")
@params_option
@overlay_option
@click.option("--fingerprint", help="Refuse to run when the plan says another one.")
@click.option("--verify", is_flag=True, help="Compare its results with their checksums instead.")
def job(
    stage: str,
    job: str,
    params: Path,
    overlays: tuple[Path, ...],
    fingerprint: str | None,
    verify: bool,
) -> None:
    """Do one job of the plan (the workflow calls this).

    SIGTERM, SIGUSR1, SIGHUP and Ctrl-C end it at the next safe point with status 75: to be started
    again.
    """
    from voxseq.base.stopping import stop_requests

    with stop_requests():
        _do(stage, job, params, overlays, fingerprint, verify=verify)


def _do(
    stage: str,
    job: str,
    params: Path,
    overlays: tuple[Path, ...],
    fingerprint: str | None,
    *,
    verify: bool,
) -> None:
    from voxseq.base.gpus import lease_gpus
    from voxseq.base.logs import setup_logging
    from voxseq.config.place import data_root
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan
    from voxseq.training.launched import world_size

    setup_logging()
    config = load(params, overlays)
    built = build_plan(config)
    chosen = next((j for j in built.jobs.values() if (j.stage, j.name) == (stage, job)), None)
    if chosen is None:
        names = [j.name for j in built.jobs.values() if j.stage == stage]
        raise VoxseqError(
            f"the plan has no job {job!r} in stage {stage!r}",
            f"jobs there: {', '.join(names) or 'none'}; see `voxseq plan`",
        )
    if fingerprint is not None and fingerprint != chosen.fingerprint:
        raise VoxseqError(
            f"{stage}/{job} has fingerprint {chosen.fingerprint} in this plan, not {fingerprint}",
            "the configuration or the code changed while the workflow ran; start it again",
        )
    reads_volumes = chosen.action in ("download", "preprocess")
    root = data_root(config.data.root) if reads_volumes else None
    # Probes and baselines share jobs with fine-tuning.
    kind = "finetune" if chosen.action in ("probe", "baseline") else chosen.action
    resources = getattr(config.execution, kind, config.execution.report)
    fetch = int(config.data.fetch_at_most_gb * 1e9)
    asked = config.execution
    workspace = Workspace(Path.cwd(), built, root, resources.workers, fetch, asked.pretrain, asked)
    if verify:
        # What jobs that hold a GPU would have to wait for.
        workspace.verify(chosen)
        return
    if asked.start_method != "auto":
        multiprocessing.set_start_method(asked.start_method, force=True)
    if world_size() == 1:
        computes = chosen.action in ("pretrain", "finetune") and asked.device in ("auto", "cuda")
        # Held while the job is done; the kernel gives them back if it is killed.
        with ExitStack() as leases:
            for lease in lease_gpus(f"{stage}/{job}") if computes else ():
                leases.enter_context(lease)
            workspace.execute(chosen)
        return
    from voxseq.engine.together import execute_together

    execute_together(workspace, chosen)


cli.add_section(
    "Your studies",
    (
        workspaces.new,
        study.init,
        study.run,
        status.status,
        results.tables,
        results.where,
        seeds.report,
    ),
)
cli.add_section(
    "Trained models", (predict.predict, predict.evaluate, predict.features, export, picture.picture)
)
cli.add_section("Data, configuration, cost", (data, config, plan))
cli.add_section(
    "Results once more", (seeds.verify_lock, results.verify, results.forget, upkeep.prune)
)
cli.add_section(
    "Called by the workflow, and for developers",
    (job, upkeep.close, upkeep.record, upkeep.code, upkeep.readme),
)


def main() -> None:
    """Entry point: user errors end in a message and status 2, requests to stop in status 75."""
    open_streams()
    if sys.platform == "win32":
        # File locks, requests to stop, and the shell around jobs are those of POSIX systems.
        say_last(f"error: {WINDOWS}")
        sys.exit(2)
    try:
        # click hands the status of `ctx.exit` back as a number.
        status = cli(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except VoxseqError as error:
        say_last(f"error: {error}")
        sys.exit(2)
    except Interrupted as error:
        say_last(str(error))
        # At once: the interpreter's own end could wait for a lock that the interrupted code holds.
        os._exit(RETRY)
    except BrokenPipeError:
        # Whoever reads the output has seen enough of it.
        say_last()
        sys.exit(1)
    except (MemoryError, OSError) as error:
        say_last(f"error: {of_a_command(error)}")
        sys.exit(2)


if __name__ == "__main__":
    main()
