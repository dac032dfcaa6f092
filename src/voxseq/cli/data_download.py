"""``voxseq data download``: fetch data sets by name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from voxseq.base.errors import ConfigError, VoxseqError
from voxseq.cli.options import overlay_option, params_option, resolve_root, root_option

if TYPE_CHECKING:
    from voxseq.catalogue import DataSet
    from voxseq.fetch import Fetched, FetchResult

#: Exit status when a data set is left for the user, or failed.
_FAILED = 2


@click.command("download")
@click.argument("names", nargs=-1, required=True)
@root_option
@params_option
@overlay_option
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Files fetched at a time.",
)
@click.option("--dry-run", is_flag=True, help="Only list files, bytes and free space.")
def download(
    names: tuple[str, ...],
    root: Path | None,
    params: Path,
    overlays: tuple[Path, ...],
    parallel: int,
    dry_run: bool,
) -> None:
    """Fetch the data sets NAMES into the data root.

    The same command continues an interrupted download. Sets that only you can obtain are left to
    the end: their steps are printed, and the exit status is 2.
    """
    from voxseq import catalogue

    rows = [catalogue.get(name) for name in dict.fromkeys(names)]
    place = resolve_root(root, params, overlays)
    if place is None:
        raise ConfigError(
            "no folder for the data sets is named", "name one with --root, VOXSEQ_DATA or data.root"
        )
    if dry_run:
        for row in rows:
            _list(row, place)
        return
    failed = _fetch_all(rows, place, parallel)
    for error in failed:
        click.echo(f"error: {error}", err=True)
    if failed:
        sys.exit(_FAILED)


def _fetch_all(rows: list[DataSet], root: Path, parallel: int) -> list[VoxseqError]:
    """Fetch one data set after the other; returns the errors of those that failed."""
    from voxseq.base.logs import setup_logging
    from voxseq.base.stopping import stop_requests

    setup_logging()
    with stop_requests():
        return [error for row in rows if (error := _fetch(row, root, parallel)) is not None]


def _fetch(dataset: DataSet, root: Path, parallel: int) -> VoxseqError | None:
    """Fetch one data set; returns its error, so that the others are not kept."""
    from voxseq.fetch import fetch

    try:
        outcome = fetch(dataset, root, parallel=parallel)
    except VoxseqError as error:
        return error
    for line in _report(dataset, outcome):
        click.echo(line)
    return None


def _report(dataset: DataSet, outcome: FetchResult) -> list[str]:
    from voxseq.fetch.meter import in_words

    name, folder = dataset.name, outcome.folder
    if outcome.record is None:
        return [
            f"{name}: {folder} is there and was not made by this command: nothing was fetched; "
            "move it away to have it fetched"
        ]
    if outcome.state == "complete":
        return [f"{name}: complete in {folder}, nothing to do"]
    files = sum(item.files for item in outcome.record.fetched)
    size = sum(item.size for item in outcome.record.fetched)
    lines = [f"{name}: fetched {in_words(size)}, {files} files in {folder}"]
    lines += [
        f"{name}: {_voucher(item)} for {item.source}: no source states its checksum; the file has "
        f"{item.checksum or 'the sizes that the bucket lists'}"
        for item in outcome.weak
    ]
    if dataset.steps:
        lines.append(f"{name}: the catalogue adds:")
        lines += [f"  {number}. {step}" for number, step in enumerate(dataset.steps, 1)]
    return lines


def _voucher(item: Fetched) -> str:
    """Evidence that a file without a checksum is right."""
    known = ["its length"] if item.verified_by == "length" else []
    if item.source.startswith(("https:", "s3:")):
        known.append("the encrypted connection (TLS)")
    if not known:
        return "nothing vouches"
    return f"only {' and '.join(known)} {'vouch' if len(known) > 1 else 'vouches'}"


def _list(dataset: DataSet, root: Path) -> None:
    """Print what fetching would do, without asking any server."""
    from voxseq.base.failures import existing
    from voxseq.fetch import state, stated_size
    from voxseq.fetch.meter import in_words
    from voxseq.fetch.record import units

    folder = root / dataset.folder
    for file in units(dataset):
        many = f" ({file.objects} objects)" if file.objects is not None else ""
        vouched = file.checksum or "no checksum"
        click.echo(f"{file.url}{many}  {in_words(file.size)}  {vouched}")
    states = {
        "absent": "not here",
        "complete": "complete",
        "outdated": "fetched for another version of the catalogue",
        "own": "a folder of your own, left as it is",
    }
    free = shutil.disk_usage(existing(root)).free
    click.echo(
        f"{dataset.name}: {len(units(dataset))} addresses, {in_words(stated_size(dataset))} to "
        f"fetch; {in_words(free)} free; {folder}: {states[state(dataset, folder)]}"
    )
