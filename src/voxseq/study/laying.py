"""New workspaces: the workflow's files, laid into a folder of the user's.

There is one source of these files, the checkout. A wheel holds them in ``voxseq/workspace``, where
the build puts them (pyproject.toml).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from voxseq.base.errors import VoxseqError
from voxseq.base.files import read_text, write_text
from voxseq.plan.code_versions import PACKAGE, VERSIONS
from voxseq.study.launch import WORKFLOW

#: The workflow itself, which belongs to one version of voxseq.
PROGRAM = (
    str(WORKFLOW),
    "dvc.yaml",
    "reproduce_tables",
    "requirements.lock",
    "docs/params.schema.json",
    "workflow/rules",
    "workflow/scripts",
    "workflow/report",
    "workflow/envs",
)
PARAMS = "params.yaml"
#: What users change: their configuration, scales, profiles of their machines.
SETTINGS = (
    PARAMS,
    "workflow/scales",
    "profiles",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
)
#: Versions of the code, which DVC reads: in a checkout, and in a workspace without the package.
_CHECKOUTS, _OWN = "src/voxseq/code.json", "workflow/code.json"
#: What interpreters and desktops leave in a checkout.
_LITTER = ("__pycache__", ".DS_Store")
#: What may be in the folder of a new workspace.
_BESIDE = (".git", ".venv")


def source() -> Path:
    """Folder with the workflow's files of this very version: in the package, else the checkout.

    Raises:
        VoxseqError: the package was installed without them.
    """
    for folder in (PACKAGE / "workspace", PACKAGE.parents[1]):
        if (folder / WORKFLOW).is_file() and (folder / "dvc.yaml").is_file():
            return folder
    raise VoxseqError(
        f"{PACKAGE} lacks the workflow's files, which a wheel and a checkout have",
        "install the wheel again, or `git clone` the repository and `make environment` there",
    )


def lay(folder: Path) -> list[Path]:
    """Make a workspace.

    Args:
        folder: new, or empty but for a repository or an environment.

    Returns:
        The files, relative to it.

    Raises:
        VoxseqError: something is there already.
    """
    if folder.exists() and (
        not folder.is_dir() or any(path.name not in _BESIDE for path in folder.iterdir())
    ):
        is_one = (folder / WORKFLOW).is_file()
        raise VoxseqError(
            f"{folder} {'is a workspace already' if is_one else 'is not empty'}",
            "`voxseq new --update` renews its workflow"
            if is_one
            else "name a folder that is empty or does not exist",
        )
    return _write(folder, (*PROGRAM, *SETTINGS))


def renew(folder: Path) -> list[Path]:
    """Put the workflow of this version into a workspace; settings stay as they are.

    Returns:
        The files that have changed, relative to it.

    Raises:
        VoxseqError: there is no workspace, or it is a checkout.
    """
    if not (folder / WORKFLOW).is_file():
        raise VoxseqError(f"{folder} is no workspace", f"`voxseq new {folder}` makes one")
    if (folder / _CHECKOUTS).is_file():
        raise VoxseqError(f"{folder} is a checkout", "`git pull` renews it")
    return _write(folder, PROGRAM)


def _write(folder: Path, names: tuple[str, ...]) -> list[Path]:
    origin = source()
    written = []
    for path in [path for name in names for path in _files(origin, name)]:
        target, text = folder / path, _adapted(path, read_text(origin / path))
        if not target.is_file() or read_text(target) != text:
            write_text(target, text)
            shutil.copymode(origin / path, target)
            written.append(path)
    if follow_code(folder, is_new=True):
        written.append(Path(_OWN))
    return written


def _files(origin: Path, name: str) -> Iterator[Path]:
    place = origin / name
    found = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    for path in (path.relative_to(origin) for path in found):
        if not set(path.parts) & set(_LITTER):
            yield path


def _adapted(path: Path, text: str) -> str:
    """A file as it is in a workspace, which has no ``src``."""
    from voxseq import __version__

    if path.name == "dvc.yaml":
        return text.replace(_CHECKOUTS, _OWN)
    if path.name == "requirements.lock":
        # Environments of single jobs are made from it.
        return f"{text}voxseq=={__version__}\n"
    return text


def follow_code(folder: Path, *, is_new: bool = False) -> bool:
    """Let DVC see in a workspace which versions of code the installed package has.

    Args:
        folder: a workspace; nothing is done in a checkout.
        is_new: whether it gets the file that it does not have yet.

    Returns:
        Whether the file has changed.
    """
    path, text = folder / _OWN, read_text(VERSIONS)
    if path.is_file():
        if read_text(path) == text:
            return False
    elif not is_new:
        return False
    write_text(path, text)
    return True
