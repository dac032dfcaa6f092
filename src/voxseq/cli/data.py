"""``voxseq data``: the catalogue, and what of it is here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.errors import VoxseqError
from voxseq.cli.data_download import download
from voxseq.cli.data_verify import verify
from voxseq.cli.options import overlay_option, own_sets, params_option, resolve_root, root_option

if TYPE_CHECKING:
    from rich.table import Table

    from voxseq.catalogue import DataSet
    from voxseq.data.verify.presence import Presence


@click.group()
def data() -> None:
    """List, obtain and check the data sets."""


data.add_command(download)
data.add_command(verify)


@data.command("list")
@root_option
@params_option
@overlay_option
@click.option("--no-count", is_flag=True, help="Do not count the images that are here.")
def list_(root: Path | None, params: Path, overlays: tuple[Path, ...], no_count: bool) -> None:
    """Show your own data sets and those of the catalogue, and what of them is here."""
    from rich.console import Console

    from voxseq.catalogue import CATALOGUE
    from voxseq.data.verify.presence import look

    place = resolve_root(root, params, overlays)
    rows = [*own_sets(params, overlays).values(), *CATALOGUE.values()]
    if no_count:
        here = [_here(row, place) for row in rows]
        reasons = []
    else:
        found = [look(row, place) for row in rows]
        here = [_state(row, presence) for row, presence in zip(rows, found, strict=True)]
        reasons = [f"{r.name}: {p.reason}" for r, p in zip(rows, found, strict=True) if p.reason]
    # Redirected, the table is as wide as it needs to be; on a terminal it is folded.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    console = Console(width=width, highlight=False, markup=False, soft_wrap=False)
    console.print(_table(rows, here))
    for line in _footer(place, reasons):
        click.echo(line)


def _table(rows: list[DataSet], here: list[str]) -> Table:
    from rich.table import Table

    from voxseq.catalogue.document import size_text

    table = Table(box=None, pad_edge=False)
    for name in ("name", "role", "modality", "access", "licence"):
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for name in ("size", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    for row, state in zip(rows, here, strict=True):
        volumes = "?" if row.volumes is None else str(row.volumes)
        size = "?" if row.size is None else size_text(row.size)
        access: str = row.access
        if row.own:
            access, size = "your own", ""
        table.add_row(row.name, row.role, row.modality, access, row.licence, size, volumes, state)
    return table


def _here(dataset: DataSet, root: Path | None) -> str:
    from voxseq.base.paths import files

    folder = dataset.place(root)
    if folder is None or next(files(folder), None) is None:
        return "absent"
    return "some files"


def _state(dataset: DataSet, presence: Presence) -> str:
    if presence.state == "absent":
        return "absent"
    if presence.state == "present":
        return f"present, {presence.found}"
    whole = f" of {dataset.volumes}" if dataset.volumes is not None else ""
    return f"incomplete, {presence.found}{whole}"


def _footer(root: Path | None, reasons: list[str]) -> Iterator[str]:
    yield ""
    yield from reasons
    if root is None:
        yield "no data root: name one with --root, VOXSEQ_DATA or data.root"
    elif not root.is_dir():
        yield f"the data root {root} does not exist"
    else:
        yield f"data root: {root}"
    yield (
        "?: not stated by any source we know. A part of a data set is enough to work with it. "
        "`voxseq data show NAME` tells more."
    )


@data.command("show")
@click.argument("name")
@root_option
@params_option
@overlay_option
def show(name: str, root: Path | None, params: Path, overlays: tuple[Path, ...]) -> None:
    """Tell everything about one data set, and how to obtain it."""
    from voxseq import catalogue

    row = own_sets(params, overlays).get(name) or catalogue.get(name)
    place = resolve_root(root, params, overlays)
    for line in _description(row, place):
        click.echo(line)


def _description(row: DataSet, root: Path | None) -> Iterator[str]:
    from voxseq.catalogue import count_notes
    from voxseq.data.verify.presence import look

    yield f"{row.title}"
    yield from _facts(row, root)
    if not row.own:
        steps = enumerate(how_to_obtain(row), start=1)
        yield ""
        yield "how to obtain it"
        yield from (f"  {number}. {step}" for number, step in steps)
    if row.unconfirmed:
        yield ""
        yield "unconfirmed: no source settles these; ask the publisher before you rely on them"
        yield from (f"  - {fact}" for fact in row.unconfirmed)
    presence = look(row, root)
    yield ""
    yield f"here: {_state(row, presence)}"
    if presence.reason:
        yield f"  {presence.reason}"
    if presence.found:
        yield from (f"  {note}" for note in count_notes(row, presence.found))
    yield ""
    yield "next"
    yield from (f"  {line}" for line in _next(row, root, presence))


def how_to_obtain(dataset: DataSet) -> list[str]:
    """The steps by which a user obtains a data set, in order, the command that fetches included."""
    command = f"voxseq data download {dataset.name}"
    if dataset.client:
        return [
            *dataset.steps,
            "Or let the official client fetch it, once the terms are accepted and your credentials "
            f'are where the client looks for them: pip install -e ".[accounts]" in the '
            f"checkout; {command}",
        ]
    terms = [dataset.terms] if dataset.terms else []
    fetching = [command] if dataset.files else []
    return [*terms, *fetching, *dataset.steps]


def _facts(row: DataSet, root: Path | None) -> Iterator[str]:
    from voxseq.catalogue.document import images_text, size_text

    place = row.place(root)
    folder = f"<data root>/{row.folder}" if place is None else str(place)
    known = sum(bool(file.checksum) for file in row.files)
    facts = {
        "name": row.name,
        "role": {"both": "pre-training source and task"}.get(row.role, row.role),
        "modality": row.modality,
        "classes": ", ".join(row.classes),
        "access": "your own" if row.own else row.access,
        "licence": row.licence,
        "source": row.source,
        "version": row.version,
        "citation": row.citation,
        "size": "" if row.own else size_text(row.size),
        "images": images_text(row),
        "files": f"{len(row.files)}, checksums for {known}" if row.files else "",
        "folder": folder,
        "layout": ", ".join(row.paths),
        "reader": row.layout,
        "overlaps": ", ".join(row.overlaps),
        "note": row.note,
    }
    yield from (f"  {key:9} {value}" for key, value in facts.items() if value)


def _next(row: DataSet, root: Path | None, presence: Presence) -> Iterator[str]:
    if root is None and not row.own:
        yield "export VOXSEQ_DATA=FOLDER   (the folder that holds all data sets)"
    if presence.state == "absent" and row.files:
        yield f"voxseq data download {row.name}"
    yield f"voxseq data verify {row.name}"


@data.command("docs")
@click.option("--write", is_flag=True, help="Write docs/datasets.md instead of printing.")
def docs(write: bool) -> None:
    """Print docs/datasets.md with its tables generated from the catalogue."""
    from voxseq.base.files import read_text, write_text
    from voxseq.catalogue.document import PAGE, with_tables

    try:
        text = read_text(PAGE)
    except OSError as error:
        raise VoxseqError(
            f"{PAGE} cannot be read: {error.strerror}", "call this in the checkout"
        ) from None
    if write:
        write_text(PAGE, with_tables(text))
    else:
        click.echo(with_tables(text), nl=False)
