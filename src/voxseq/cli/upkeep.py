"""Commands of the workflow and of maintainers: ends of stages, records, code versions."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.base.errors import VoxseqError
from voxseq.cli.options import check_stages, overlay_option, params_option, workspace_of


@click.command()
@params_option
@overlay_option
@click.argument("stages", nargs=-1)
def prune(params: Path, overlays: tuple[Path, ...], stages: tuple[str, ...]) -> None:
    """Move results that the plan no longer names to the attic (.voxseq/attic)."""
    from voxseq.plan import STAGES

    check_stages(*stages)
    for name in workspace_of(params, overlays).prune(stages or STAGES):
        click.echo(f"moved to the attic: {name}")


@click.command()
@params_option
@click.argument("stage")
@click.argument("scale")
@click.argument("results")
def close(params: Path, stage: str, scale: str, results: str) -> None:
    """End a stage of DVC (dvc.yaml calls this).

    Fails unless all that the present parameters name is finished, and DVC is about to record SCALE
    and RESULTS of these parameters. Then moves results that the plan no longer names to the attic.
    """
    from voxseq.engine.dvc import require_complete
    from voxseq.plan import STAGES

    check_stages(stage)
    workspace = workspace_of(params)
    (found,) = (name for name in STAGES if name == stage)
    require_complete(workspace.root, workspace.plan, found, scale, results)
    for name in workspace.prune((found,)):
        click.echo(f"moved to the attic: {name}")


@click.command()
@params_option
def record(params: Path) -> None:
    """Record finished stages in DVC (the workflow calls this when it has succeeded)."""
    from voxseq.engine.dvc import record_stages

    workspace = workspace_of(params)
    record_stages(workspace.root, workspace.plan)


@click.command()
@click.option("--write", is_flag=True, help="Write the pages instead of only comparing.")
def readme(write: bool) -> None:
    """Compare results/README.md and the tables in README.md with the results, or make them."""
    from voxseq.base.files import write_text
    from voxseq.cli.readme import pages

    for path, wanted in pages(Path()).items():
        if write:
            write_text(path, wanted)
            click.echo(path)
        elif not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            raise VoxseqError(f"{path} does not show the present results", "voxseq readme --write")


@click.group()
def code() -> None:
    """Versions of the code of each action, which enter the fingerprints of its runs."""


@code.command("check")
def code_check() -> None:
    """Fail when code changed and nobody said whether results change."""
    from voxseq.plan.code_versions import changed_actions

    changed = changed_actions()
    if changed:
        raise VoxseqError(
            f"the behaviour of {', '.join(sorted(changed))} may have changed since it was recorded",
            "`voxseq code keep ACTION…` when results stay the same to the bit, "
            "`voxseq code bump ACTION…` when they may differ",
        )
    click.echo("all code is as recorded")


@code.command("keep")
@click.argument("names", nargs=-1, required=True)
def code_keep(names: tuple[str, ...]) -> None:
    """Record the present code of actions whose results stay the same."""
    _record_code(names, bump=False)


@code.command("bump")
@click.argument("names", nargs=-1, required=True)
def code_bump(names: tuple[str, ...]) -> None:
    """Record the present code of actions whose results may differ: their runs are done again."""
    _record_code(names, bump=True)


def _record_code(names: tuple[str, ...], *, bump: bool) -> None:
    from voxseq.base.files import write_json
    from voxseq.plan.code_versions import VERSIONS, digests, recorded

    now = digests()
    unknown = [name for name in names if name not in now and name != "all"]
    if unknown:
        raise VoxseqError(f"no such action: {', '.join(unknown)}", f"actions: {', '.join(now)}")
    before = recorded() if VERSIONS.exists() else {}
    kept = {name: dict(entry) for name, entry in before.items() if name in now}
    for name in now if "all" in names else names:
        version = kept.get(name, {}).get("version", 0 if bump else 1) + bump
        kept[name] = {"version": version, "digest": now[name]}
    write_json(VERSIONS, kept)
