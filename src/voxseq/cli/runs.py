"""Finished runs of a workspace, as commands name them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxseq.base.commands import is_study, overlay_named, to_make, with_overlays
from voxseq.base.errors import ConfigError, DataError
from voxseq.cli.options import workspace_of

if TYPE_CHECKING:
    from voxseq.engine.workspace import Workspace
    from voxseq.plan import Run

#: Files of a trained model and of an encoder.
CARD, ENCODER = "model.json", "encoder.safetensors"


def finished_run(
    word: str, params: Path, overlays: tuple[Path, ...]
) -> tuple[Workspace, Run] | None:
    """A finished run of the plan by its id, or by its folder in artifacts, with its workspace.

    Returns:
        ``None`` where the word is the id of no run.

    Raises:
        DataError: the configuration has no such run, or it is not finished; the message names one
            of another scale that is.
        ConfigError: there is no configuration.
    """
    from voxseq.plan import STAGES

    word, overlays = _of_artefacts(word, params, overlays)
    if word.split("/", 1)[0] not in STAGES or "/" not in word:
        return None
    if not params.exists() and not overlays:
        raise ConfigError(
            f"{word}: a run of a workspace, but there is no {params} here",
            "go to the folder of the study, or name the folder of the model",
        )
    workspace = workspace_of(params, overlays)
    run = workspace.plan.runs.get(word)
    if run is None:
        raise DataError(
            f"{word}: no run of this configuration",
            "name the study of the run, --overlay studies/NAME.yaml, or the run's folder in "
            "artifacts; `voxseq plan` lists all runs",
        )
    if not workspace.is_finished(run):
        scale = workspace.plan.scale
        hint = f"`{to_make(run.stage, overlays=overlays)}` trains it; "
        hint += f"`{with_overlays('voxseq plan', overlays)}` shows what is finished"
        if elsewhere := _finished_elsewhere(word, scale):
            hint = f"that of another scale is: {elsewhere}"
        raise DataError(f"run {word} of {_study_in_words(scale, overlays)} is not finished", hint)
    return workspace, run


def _study_in_words(scale: str, overlays: tuple[Path, ...]) -> str:
    return f"{'study' if any(map(is_study, overlays)) else 'scale'} {scale}"


def _finished_elsewhere(word: str, scale: str) -> Path | None:
    """Folder of the same run, finished and with its weights, in another scale."""
    from voxseq.plan.model import ARTEFACTS

    folders = (marker.parent for marker in sorted(Path(ARTEFACTS).glob(f"*/{word}/run-*.json")))
    others = (folder for folder in folders if folder.parts[1] != scale)
    return next((f for f in others if (f / CARD).exists() or (f / ENCODER).exists()), None)


def _of_artefacts(
    word: str, params: Path, overlays: tuple[Path, ...]
) -> tuple[str, tuple[Path, ...]]:
    """Id of a run, which its folder artifacts/SCALE/ID may name, and what makes its study."""
    from voxseq.config import read_yaml
    from voxseq.plan.model import ARTEFACTS, STAGES

    place, artefacts = Path.cwd() / word, Path.cwd() / ARTEFACTS
    parts = place.relative_to(artefacts).parts if place.is_relative_to(artefacts) else ()
    if len(parts) < 3 or parts[1] not in STAGES:
        return word, overlays
    scale, run = parts[0], "/".join(parts[1:])
    if overlays or not params.is_file() or read_yaml(params).get("scale") == scale:
        return run, overlays
    return run, (overlay_named(scale),)
