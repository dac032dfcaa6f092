"""The configuration of a study, as a tree of keys: data set, sequences, encoder and task."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxseq.study.division import Division
from voxseq.study.look import Look, Shape
from voxseq.study.machine import Machine
from voxseq.study.presets import (
    LENGTH,
    Geometry,
    Preset,
    class_weights,
    geometry,
    pretraining_steps,
    segmentation_steps,
    window,
)

#: Share of the steps of a linear warm-up, and validations of a training.
_WARMUP, _VALIDATIONS = 0.05, 4
#: The decoder learns faster than the encoder by this factor (chosen on 40 hippocampi).
_DECODER = 3.0
#: Places that are cut from an image for pre-training: the paper's; more where images are few.
_CROPS, _LEAST_SEQUENCES = 50, 2000
#: Every n-th sequence is for validation; as many are scored at most.
_HELD_OUT, _SCORED = 20, 64
#: Voxels of a chunk's side of the store, twice as many for crops of this side.
_CHUNK, _LARGE_CROP = 16, 64
#: mm within which a surface counts as met, as a share of the spacing.
_TOLERANCE = 1.0
_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
#: Memory in MB that a job asks for, besides that of the training on the CPU.
_MEMORY = 3000


@dataclass(frozen=True)
class Wishes:
    """What a user has said.

    Attributes:
        name: of the study.
        facts: of the data set, as ``data.sets`` has them.
        target: name of the number that a regression predicts.
        pretrain_only: whether the study ends with encoders.
        steps: of every training; None: those of the preset.
        seeds: whole chains, each with a pre-training of its own.
    """

    name: str
    facts: Mapping[str, Any]
    target: str | None = None
    pretrain_only: bool = False
    steps: int | None = None
    seeds: int = 3


def settings(
    look: Look, wishes: Wishes, preset: Preset, machine: Machine, division: Division
) -> dict[str, Any]:
    """All keys of a study that stands alone.

    Args:
        look: at the images.
        wishes: of the user.
        preset: the size.
        machine: that is to do it.
        division: of the subjects.
    """
    grids = geometry(look, preset)
    chunk = _CHUNK if max(grids.roi) < _LARGE_CROP else 2 * _CHUNK
    tree: dict[str, Any] = {
        "standalone": True,
        "scale": wishes.name,
        "results": f"results/{wishes.name}",
        "seeds": wishes.seeds,
        "data": {"sets": {wishes.name: _facts(look, wishes)}, **_drawn(look, division)},
        "store": {"chunk_shape": [chunk] * 3},
        "sequences": _sequences(look, wishes, grids),
        "encoder": {
            "width": preset.width,
            "depth": preset.depth,
            "heads": preset.heads,
            "mlp_width": preset.mlp_width,
            "patch_size": [grids.token] * 3,
        },
        "pretrain": _pretrain(look, wishes, preset),
        "finetune": _finetune(look, wishes, preset, grids),
    }
    if machine.has_bf16:
        tree["pretrain"]["precision"] = tree["finetune"]["precision"] = "bf16-mixed"
    tree["execution"] = _execution(machine)
    return tree


def _facts(look: Look, wishes: Wishes) -> dict[str, Any]:
    """Facts of the data set, with those that estimates go by."""
    spacing = [float(f"{value:.4g}") for value in look.spacing]
    return {
        "title": wishes.name,
        **wishes.facts,
        "volumes": len(look.entries),
        "assumed": {"shape": list(look.shape), "spacing": spacing},
    }


def _drawn(look: Look, division: Division) -> dict[str, Any]:
    """Shares and seed of the split, where the study chooses them."""
    if look.kind != "classification" or any(entry.split for entry in look.entries):
        return {}
    return {"split_ratio": list(division.ratio), "split_seed": division.seed}


def _sequences(look: Look, wishes: Wishes, grids: Geometry) -> dict[str, Any]:
    crops = max(_CROPS, math.ceil(_LEAST_SEQUENCES / len(look.entries)))
    return {
        "volume_shape": list(grids.volume),
        "length": LENGTH,
        "sources": [{"dataset": wishes.name, "kind": "spatial"}],
        "spatial": {
            "crops_per_volume": crops,
            "crop_shape": list(grids.crop),
            "window_shape": list(grids.volume),
            "stride": grids.stride,
        },
        "validation_every": _HELD_OUT,
    }


def _pretrain(look: Look, wishes: Wishes, preset: Preset) -> dict[str, Any]:
    steps = wishes.steps or pretraining_steps(preset, len(look.entries))
    return {
        "steps": steps,
        "batch_size": preset.pretrain_batch,
        "validate_every": _part(steps),
        "validation_sequences": _SCORED,
        "methods": {
            "ours": {
                "optimiser": {
                    "lr": preset.lr,
                    "weight_decay": 0.01,
                    "warmup_steps": _warmup(steps),
                    "schedule": "cosine",
                }
            }
        },
    }


def _finetune(look: Look, wishes: Wishes, preset: Preset, grids: Geometry) -> dict[str, Any]:
    if wishes.pretrain_only:
        return {"scratch": [], "tasks": {}}
    is_segmentation = look.kind == "segmentation"
    usual = segmentation_steps(preset, grids) if is_segmentation else preset.steps
    steps = wishes.steps or usual
    task: dict[str, Any] = {"type": look.kind, "title": wishes.name, "dataset": wishes.name}
    if is_segmentation:
        task |= _segmentation(look, preset, grids)
    else:
        task |= _of_images(look, wishes, preset)
    task |= {"steps": steps, "validate_every": _part(steps)}
    task["data"] |= _intensities(look)
    learning: dict[str, Any] = {"lr": preset.lr, "warmup_steps": _warmup(steps)}
    if is_segmentation:
        learning["decoder_lr"] = _DECODER * preset.lr
    task |= {"pretrained": learning, "scratch": dict(learning)}
    return {
        "runs_per_job": 1,
        "keep_models": "all",
        "scratch": ["unetr" if is_segmentation else "vit"],
        "tasks": {wishes.name: task},
    }


def _segmentation(look: Look, preset: Preset, grids: Geometry) -> dict[str, Any]:
    # Values of one name, such as those of a region, are one class.
    names = list(dict.fromkeys(look.structures.values()))
    number = {value: 1 + names.index(name) for value, name in look.structures.items()}
    merged = {value: n for value, n in number.items() if value != n}
    voxels = Counter[str]()
    for value, name in look.structures.items():
        voxels[name] += look.voxels.get(value, 0)
    recipe: dict[str, Any] = {"labels": names}
    if look.ignore is not None:
        recipe["ignore_label"] = look.ignore
    spacing = grids.spacing or look.spacing
    recipe |= {
        "roi": list(grids.roi),
        "volumes_per_batch": preset.volumes,
        "crops_per_volume": 2,
        "crop_sampling": "class_balanced",
        "augmentation": "unflipped" if _has_sides(names) else "msd",
        "class_weights": class_weights([voxels[name] for name in names]),
        "decoder_features": preset.decoder_features,
        "overlap": 0.5,
        "score_grid": "native",
        "surface": True,
        "surface_tolerance": max(round(_TOLERANCE * max(look.spacing), 1), 0.1),
    }
    data: dict[str, Any] = {"spacing": None if grids.spacing is None else list(spacing)}
    if merged:
        data["merge_labels"] = merged
    return {**recipe, "data": data}


def _has_sides(names: Sequence[str]) -> bool:
    """Whether two structures differ in their side alone, such as the left and the right kidney.

    A mirror image of one is the other.
    """
    without = [_SIDE.sub("", name.lower()) for name in names]
    return len(set(without)) < len(set(names))


def _of_images(look: Look, wishes: Wishes, preset: Preset) -> dict[str, Any]:
    recipe: dict[str, Any]
    if look.kind == "regression":
        recipe = {"target": wishes.target or "target"}
    else:
        recipe = {"labels": list(look.groups.values())}
    recipe["batch_size"] = preset.batch_size
    return {**recipe, "data": {"resize": list(whole_image(look, preset))}}


def whole_image(look: Look, preset: Preset) -> Shape:
    """Voxels to which whole images are resized: whole tokens, in the proportions of the images."""
    extent = [n * s for n, s in zip(look.shape, look.spacing, strict=True)]
    scale = (preset.side**3 / math.prod(extent)) ** (1 / 3)
    token = preset.token
    x, y, z = (
        max(min(round(e * scale / token), -(-n // token)), 1) * token
        for e, n in zip(extent, look.shape, strict=True)
    )
    return (x, y, z)


def _intensities(look: Look) -> dict[str, Any]:
    if look.dataset.modality != "CT":
        return {"normalise": "zscore", "foreground_crop": True}
    return {"normalise": "window", "window": list(window(look)), "foreground_crop": True}


def _execution(machine: Machine) -> dict[str, Any]:
    if not machine.gpu:
        job = {"threads": 1, "mem_mb": _MEMORY}
        return {"device": "auto", "pretrain": job, "finetune": dict(job)}
    workers = min(max(machine.cores - 1, 1), 8)
    job = {"threads": workers + 1, "mem_mb": 4 * _MEMORY, "gpu": 1, "workers": workers}
    return {"device": "auto", "pretrain": job, "finetune": dict(job)}


def _part(steps: int) -> int:
    """Steps between validations."""
    return max(steps // _VALIDATIONS, 1)


def _warmup(steps: int) -> int:
    return max(round(_WARMUP * steps), 1)
