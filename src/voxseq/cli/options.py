"""Options that several commands share, and the data root they lead to."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxseq.base.commands import overlay_named
from voxseq.base.errors import DataError, VoxseqError

if TYPE_CHECKING:
    from voxseq.catalogue import DataSet
    from voxseq.config import Config
    from voxseq.engine.workspace import Workspace

params_option = click.option(
    "--params",
    "params",
    type=click.Path(path_type=Path),
    default=Path("params.yaml"),
    show_default=True,
    help="Configuration file.",
)


def _overlays(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """The paths; of a name alone that of a file in studies/ or workflow/scales/."""
    return tuple(map(overlay_named, values))


overlay_option = click.option(
    "--overlay",
    "overlays",
    metavar="FILE",
    callback=_overlays,
    multiple=True,
    help="File laid over it, or the name of one in studies/ or workflow/scales/; several in turn.",
)
root_option = click.option(
    "--root",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the data sets  [default: VOXSEQ_DATA, else data.root]",
)


def study_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command with overlays take the name of a study, which is laid over the others."""

    @click.argument("study", required=False)
    @functools.wraps(command)
    def called(*, study: str | None, overlays: tuple[Path, ...], **options: Any) -> None:
        from voxseq.study.launch import study_file

        own = () if study is None else (study_file(study),)
        command(overlays=(*overlays, *own), **options)

    return called


def load(params: Path, overlays: tuple[Path, ...] = ()) -> Config:
    """The configuration of a file with the overlays laid over it in turn.

    Raises:
        ConfigError: naming each key, its value, what was expected, and the file and line.
    """
    from voxseq.config import load_config, read_yaml

    return load_config(params, [read_yaml(path) for path in overlays])


def workspace_of(params: Path, overlays: tuple[Path, ...] = ()) -> Workspace:
    """The current folder as the workspace of a configuration's plan; errors as :func:`load`."""
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import build_plan

    return Workspace(Path.cwd(), build_plan(load(params, overlays)))


def resolve_root(root: Path | None, params: Path, overlays: tuple[Path, ...]) -> Path | None:
    """The folder of the data sets, which need not exist; None where nothing names one.

    The option comes first, then the environment variable, then ``data.root`` of the configuration.
    A configuration that does not exist names no folder.

    Raises:
        ConfigError: the configuration is not valid.
    """
    from voxseq.config.place import DATA_VARIABLE

    given = root or os.environ.get(DATA_VARIABLE)
    if given:
        return Path(given).expanduser().resolve()
    if not params.exists() and not overlays:
        return None
    configured = load(params, overlays).data.root
    return None if configured is None else Path(configured).expanduser().resolve()


def own_sets(params: Path, overlays: tuple[Path, ...]) -> Mapping[str, DataSet]:
    """The user's own data sets by name; none where there is no configuration.

    Raises:
        ConfigError: the configuration is not valid.
    """
    if not params.exists() and not overlays:
        return {}
    return load(params, overlays).data.sets


def require_other(out: Path, *inputs: Path | None) -> None:
    """Refuse a file of results that is one of those it is made of.

    Raises:
        DataError: naming it.
    """
    given = (path for path in inputs if path is not None and path.exists())
    if out.exists() and any(out.samefile(path) for path in given):
        raise DataError(f"{out}: the result would replace what it is made of", "name another file")


def check_stages(*stages: str) -> None:
    """Refuse a word that is no stage of the plan.

    Raises:
        VoxseqError: naming the stages there are.
    """
    from voxseq.plan import STAGES

    for stage in stages:
        if stage not in STAGES:
            raise VoxseqError(f"unknown stage {stage!r}", f"choose from {', '.join(STAGES)}")
