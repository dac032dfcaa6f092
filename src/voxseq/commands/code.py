"""``voxseq code``: versions of the code, and whether it changed since they were recorded."""

from __future__ import annotations

import click

from voxseq.errors import VoxseqError


@click.group()
def code() -> None:
    """Versions of the parts of the code, which enter the fingerprints of runs."""


@code.command("check")
def code_check() -> None:
    """Fail when code changed and nobody said whether results change."""
    from voxseq.fingerprint import changed_units

    changed = changed_units()
    if changed:
        raise VoxseqError(
            f"the behaviour of {', '.join(sorted(changed))} may have changed since it was recorded",
            "`voxseq code keep UNIT…` when results stay the same to the bit, "
            "`voxseq code bump UNIT…` when they may differ",
        )
    click.echo("all code is as recorded")


@code.command("keep")
@click.argument("names", nargs=-1, required=True)
def code_keep(names: tuple[str, ...]) -> None:
    """Record the present code of units whose results stay the same."""
    _record_code(names, bump=False)


@code.command("bump")
@click.argument("names", nargs=-1, required=True)
def code_bump(names: tuple[str, ...]) -> None:
    """Record the present code of units whose results may differ: their runs are done again."""
    _record_code(names, bump=True)


def _record_code(names: tuple[str, ...], *, bump: bool) -> None:
    from voxseq.files import write_json
    from voxseq.fingerprint import VERSIONS, behaviour, recorded_units, units

    known = units()
    unknown = [name for name in names if name not in known and name != "all"]
    if unknown:
        raise VoxseqError(f"no such unit: {', '.join(unknown)}", f"units: {', '.join(known)}")
    recorded = recorded_units() if VERSIONS.exists() else {}
    kept = {name: dict(entry) for name, entry in recorded.items() if name in known}
    for name in known if "all" in names else names:
        version = kept.get(name, {}).get("version", 0 if bump else 1) + bump
        kept[name] = {"version": version, "digest": behaviour(known[name])}
    write_json(VERSIONS, kept)
