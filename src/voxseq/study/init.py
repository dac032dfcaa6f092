"""Make a study of a user's images: look at them, choose sizes, write the file, say the cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from voxseq.base.commands import SCALES
from voxseq.base.errors import ConfigError, DataError
from voxseq.config import Config, load_config
from voxseq.config.base import Name
from voxseq.config.datasets import DataConfig
from voxseq.config.problems import Sources, of_validation, refuse
from voxseq.config.reading import Document, read_yaml
from voxseq.study.check import Finding, findings
from voxseq.study.cost import Cost, cost_of
from voxseq.study.division import Division, divide
from voxseq.study.laying import PARAMS, source
from voxseq.study.look import Look, look
from voxseq.study.machine import Machine
from voxseq.study.modality import of_names
from voxseq.study.presets import PRESETS, Geometry, choose, geometry
from voxseq.study.settings import Wishes, settings
from voxseq.study.source import BOTH, channel_names
from voxseq.study.write import text_of

#: For editors, as seen from the folder of the studies.
SCHEMA = "../docs/params.schema.json"
#: Presets by size, the largest first.
_FALLING = ("large", "base", "small", "tiny")


@dataclass(frozen=True)
class Study:
    """A study before it is written.

    Attributes:
        wishes: of the user.
        seen: the images.
        division: of the subjects.
        findings: what matters about the images.
        preset: name of the size.
        text: of its file; empty where a finding is fatal, and config and cost are None.
    """

    wishes: Wishes
    seen: Look
    division: Division
    findings: tuple[Finding, ...]
    preset: str = ""
    text: str = ""
    config: Config | None = None
    cost: Cost | None = None

    @property
    def fatal(self) -> list[str]:
        """Why the study cannot be done."""
        return [finding.text for finding in self.findings if finding.is_fatal]


def make(wishes: Wishes, machine: Machine, preset: str | None, *, is_told: bool) -> Study:
    """Look at the images and make a study of them.

    Args:
        wishes: of the user.
        machine: that is to do it.
        preset: size; None: one that fits images and machine.
        is_told: whether the user has named the modality; else headers, names or intensities
            tell it.

    Raises:
        ConfigError: the name or the facts of the data set are not valid.
        DataError: the images are not there, or cannot be read.
    """
    data = _data_config(wishes)
    dataset = data.dataset(wishes.name)
    folder = dataset.place(None)
    assert folder is not None, "an own data set has a place"
    seen = look(dataset, folder)
    if not is_told:
        modality = _modality(seen)
        wishes = dataclasses.replace(wishes, facts={**wishes.facts, "modality": modality})
        seen = dataclasses.replace(seen, dataset=_data_config(wishes).dataset(wishes.name))
    division = divide(seen, data)
    found = tuple(findings(seen, division, pretrain_only=wishes.pretrain_only))
    study = Study(wishes, seen, division, found)
    if study.fatal:
        return study
    return _sized(study, machine, preset)


def _sized(study: Study, machine: Machine, preset: str | None) -> Study:
    """The study in the size that was asked for, else in the largest that fits the machine."""
    chosen = preset or choose(machine, len(study.seen.entries))
    names = [chosen] if preset else _FALLING[_FALLING.index(chosen) :]
    for name in names:
        made = _in_size(study, machine, name)
        assert made.cost is not None
        if made.cost.fits(machine):
            return made
    return made


def _in_size(study: Study, machine: Machine, name: str) -> Study:
    preset, seen = PRESETS[name], study.seen
    tree = settings(seen, study.wishes, preset, machine, study.division)
    grids = geometry(seen, preset)
    text = text_of(tree, _head(study, name, machine), _comments(study, grids, name))
    # The tree is validated as it will be read; a mistake in it is ours, not the user's.
    config = load_config(Path("params.yaml"), [Document(tree, f"study {study.wishes.name}")])
    cost = cost_of(config, machine, seen.reading * len(seen.entries))
    return dataclasses.replace(study, preset=name, text=text, config=config, cost=cost)


def _modality(seen: Look) -> str:
    """Modality by the headers of DICOM or by dataset.json, else as the intensities look."""
    if seen.dataset.modality == BOTH:
        stated = {entry.modality for entry in seen.entries}
        return stated.pop() if len(stated) == 1 else BOTH
    return of_names(channel_names(seen.folder)) or ("CT" if seen.is_ct else "MRI")


def _data_config(wishes: Wishes) -> DataConfig:
    try:
        return DataConfig.model_validate({"sets": {wishes.name: dict(wishes.facts)}})
    except ValidationError as error:
        refuse(of_validation(error, DataConfig, "data"), Sources(f"the study {wishes.name}"))
        raise


def require_name(name: str) -> None:
    """Refuse what cannot be the name of a study, which is that of its data set and folders too.

    Raises:
        ConfigError: other characters, too many, or a name that a scale has.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ConfigError(
            f"{name!r} cannot be the name of a study",
            "use letters, digits and underscores, at most 64",
        ) from None
    if name in _scales():
        raise ConfigError(
            f"{name} is a scale of the workflow, whose results the study would replace",
            "choose another name",
        )


def _scales() -> set[str]:
    """Names that configurations of the workflow have, here and in a new workspace."""
    own = source()
    files = [path for folder in (own, Path()) for path in (folder / SCALES).glob("*.yaml")]
    return {str(read_yaml(own / PARAMS)["scale"]), *(path.stem for path in files)}


def require_new(path: Path, *, force: bool) -> None:
    """Refuse to replace a study.

    Raises:
        ConfigError: there is one of this name.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} exists", "choose another name, or replace it: --force")


def require_sound(study: Study) -> None:
    """Refuse a study that cannot be done.

    Raises:
        DataError: with every reason.
    """
    if study.fatal:
        lines = [f"no study of {study.seen.folder}:", *(f"  {text}" for text in study.fatal)]
        raise DataError("\n".join(lines), "nothing was written; correct this and start again")


def _head(study: Study, preset: str, machine: Machine) -> list[str]:
    return [
        f"A study of {study.seen.folder}, made by `voxseq init` for a machine with {machine}",
        f"(preset {preset}). Change what you like; `voxseq run {study.wishes.name}` runs it.",
        "docs/configuration.md explains every key.",
        f"yaml-language-server: $schema={SCHEMA}",
    ]


def _comments(study: Study, grids: Geometry, preset: str) -> dict[str, str]:
    """What stands beside the keys: the reason for their value."""
    name, seen = study.wishes.name, study.seen
    task = f"finetune.tasks.{name}"
    shape = " x ".join(map(str, grids.shape))
    splits = ", ".join(f"{count} {split}" for split, count in study.division.sizes.items())
    said: dict[str, Any] = {
        "standalone": "nothing is taken from params.yaml",
        "seeds": "of everything that is trained: each has a pre-training of its own",
        f"data.sets.{name}.assumed": "a typical image, for estimates alone",
        "data.split_seed": "chosen so that each part of the split has every class",
        "sequences.volume_shape": "voxels of a sequence: patches joined along the last axis",
        "sequences.spatial.crop_shape": "of the files' own voxels, resized to window_shape",
        "encoder": f"preset {preset}; a study of its own may have any size",
        "pretrain.steps": "more images deserve more steps",
        "finetune.runs_per_job": "so that trainings run side by side",
        "finetune.keep_models": "so that they can predict as an ensemble; one_seed: less disk",
        "finetune.scratch": "the reference: the same network from random weights",
        task: f"subjects: {splits}",
        f"{task}.roi": f"voxels of a crop; a typical image has {shape} on this grid",
        f"{task}.class_weights": "background first; rare structures weigh more",
        f"{task}.surface_tolerance": "mm; raise it where readers differ more",
        f"{task}.augmentation": "msd: mirrors and turns; unflipped: left is told from right",
        f"{task}.steps": _said_of_steps(seen, grids),
        f"{task}.data.spacing": _said_of_spacing(grids),
        f"{task}.data.merge_labels": "value in the files: number of the class",
        f"{task}.data.window": "intensities of most of the structures, and a margin"
        if seen.kind == "segmentation"
        else "Hounsfield units",
        "execution": "resources of one training; no part of any result",
    }
    return said


def _said_of_steps(seen: Look, grids: Geometry) -> str:
    advice = "raise it if the curves still rise at the end"
    if seen.kind != "segmentation":
        return advice
    return f"{advice}; a crop shows {grids.share:.0%} of an image"


def _said_of_spacing(grids: Geometry) -> str:
    if grids.spacing is None:
        return "mm; null: all images have the same spacing already"
    if grids.coarser > 1.01:
        return f"mm; {grids.coarser:.2g} times the median: a crop has to show enough of an image"
    return "mm, the median"
