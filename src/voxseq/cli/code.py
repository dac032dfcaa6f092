"""``voxseq code``: versions of the code, and whether it changed since they were recorded."""

from __future__ import annotations

import click

from voxseq.base.errors import VoxseqError


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
