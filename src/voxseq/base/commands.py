"""Commands as a user types them, for the next step of a message."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from voxseq.base.errors import VoxseqError

#: Folder of the users' own studies, and of the scales of params.yaml.
STUDIES, SCALES = Path("studies"), Path("workflow/scales")
#: Everything a study has: its tables and figures, and all that they need.
EVERYTHING = "reproduce_tables"
#: Its parts that the workflow can be asked for, beside seed_0, seed_1, ….
PHASES = (
    *("download", "preprocess", "sequences", "data", "pretrain", "finetune"),
    *("ablation", "label_ratio", "beyond", "scores", "tables", "figures"),
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


def to_make(*targets: str, overlays: Sequence[Path] = ()) -> str:
    """The command that does what is not finished of a study.

    Args:
        targets: of the workflow; none: everything.
        overlays: files laid over params.yaml; none: the study of params.yaml.
    """
    asked = targets or (EVERYTHING,)
    if not overlays:
        return f"snakemake --cores all {' '.join(asked)}"
    if len(overlays) == 1 and is_study(overlays[0]):
        # It takes one target.
        only = asked[0] if len(asked) == 1 and asked[0] != EVERYTHING else ""
        return f"voxseq run {overlays[0].stem} {only}".rstrip()
    return f"snakemake --cores all {laid_over('--configfile', overlays)} -- {' '.join(asked)}"


def is_study(path: Path) -> bool:
    """Whether a file of a configuration is named by its stem alone: studies/NAME.yaml."""
    return path.parent == STUDIES and path.suffix == ".yaml"


def with_overlays(command: str, overlays: Sequence[Path]) -> str:
    """A command of voxseq about the study that the overlays make."""
    return " ".join([command, *(laid_over("--overlay", [path]) for path in overlays)])


def laid_over(option: str, overlays: Sequence[Path]) -> str:
    """An option with its files, quoted for a shell."""
    return " ".join([option, *(shlex.quote(str(path)) for path in overlays)])


def overlays_of(scale: str) -> tuple[Path, ...]:
    """The file of the study or scale of a job, which knows its name alone; none for params.yaml."""
    files = (folder / f"{scale}.yaml" for folder in (STUDIES, SCALES))
    return next(((path,) for path in files if path.is_file()), ())


def overlay_named(word: str) -> Path:
    """The file of a configuration by its path, or by its bare name in studies/ or workflow/scales/.

    Raises:
        VoxseqError: nothing there has this name; the message tells the names.
    """
    if not _NAME.fullmatch(word) or Path(word).is_file():
        return Path(word)
    if found := overlays_of(word):
        return found[0]
    known = [path.stem for folder in (STUDIES, SCALES) for path in sorted(folder.glob("*.yaml"))]
    raise VoxseqError(
        f"there is no study or scale {word!r}: neither {STUDIES} nor {SCALES} has {word}.yaml",
        f"choose from {', '.join(known)}, or name a file" if known else "name a file",
    )
