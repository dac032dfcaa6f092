"""Settings of networks without the shared encoder, for all tasks and for one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from voxseq.config.finetune import FinetuneConfig, ResNetSettings, UNet3DSettings

OPTIMISER = {"lr": 1e-3}
SEGMENTATION: dict[str, Any] = {
    "type": "segmentation",
    "title": "A",
    "dataset": "la",
    "labels": ["atrium"],
    "roi": [16, 16, 16],
    "steps": 4,
    "validate_every": 2,
    "data": {"normalise": "none", "spacing": [2, 2, 2]},
    "pretrained": {"lr": 5e-4},
    "scratch": OPTIMISER,
}
CLASSIFICATION: dict[str, Any] = {
    "type": "classification",
    "title": "B",
    "dataset": "nodule",
    "labels": ["a", "b"],
    "steps": 4,
    "validate_every": 2,
    "data": {"normalise": "none", "resize": [16, 16, 16]},
    "pretrained": OPTIMISER,
    "scratch": {"lr": 2e-3},
}


def config(**changes: Any) -> FinetuneConfig:
    content = {
        "scratch": ["unetr", "vit"],
        "tasks": {"a": SEGMENTATION, "b": CLASSIFICATION},
        **changes,
    }
    return FinetuneConfig.model_validate(content)


def test_defaults_are_those_of_paper_scale() -> None:
    task = config().tasks["a"]
    settings = UNet3DSettings(features=(32, 64, 128, 256, 512, 32), norm="instance")
    assert task.network_settings("unet3d") == settings
    assert task.network_settings("unetr") is None
    assert task.optimiser_of("unet3d", "scratch") == task.scratch
    assert task.optimiser_of("unetr", "pretrained") == task.pretrained


def test_a_task_is_laid_over_the_settings_of_all() -> None:
    recipe = {"lr": 1e-3, "weight_decay": 0, "schedule": "multistep"}
    task = {
        **CLASSIFICATION,
        "networks": {"resnet": {"input_shape": [28, 28, 28], "optimiser": {"lr": 0.5}}},
    }
    found = config(
        networks={"resnet": {"stem": "small", "optimiser": recipe}},
        tasks={"b": task, "c": CLASSIFICATION},
    )
    own, other = found.tasks["b"], found.tasks["c"]
    settings = ResNetSettings(stem="small", width=1.0, input_shape=(28, 28, 28))
    assert own.network_settings("resnet") == settings
    assert own.optimiser_of("resnet", "scratch").lr == 0.5
    assert own.optimiser_of("resnet", "scratch").schedule == "multistep"
    assert own.optimiser_of("vit", "scratch").lr == 2e-3
    assert other.network_settings("resnet") == ResNetSettings(stem="small")
    assert other.optimiser_of("resnet", "scratch").lr == 1e-3


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"networks\.resnet\.depth"):
        config(networks={"resnet": {"depth": 50}})
    with pytest.raises(ValidationError, match=r"networks\.unet3d\.features"):
        config(networks={"unet3d": {"features": [8, 16, 32]}})


@pytest.mark.parametrize(
    ("roi", "norm", "message"),
    [
        ([16, 15, 16], "batch", "every axis needs 16 voxels or more"),
        ([16, 16, 16], "instance", "one voxel is left, which instance norm maps to zero"),
    ],
)
def test_a_roi_that_cannot_fit_is_refused(roi: list[int], norm: str, message: str) -> None:
    task = {**SEGMENTATION, "roi": roi}
    given = {"networks": {"unet3d": {"norm": norm}}, "tasks": {"a": task}}
    with pytest.raises(ValidationError, match=f"tasks.a.roi .*{message}"):
        config(scratch=["unet3d"], **given)
    # Without that network nothing is wrong.
    config(scratch=["unetr"], **given)


def test_rois_that_fit() -> None:
    for roi, norm in (([16, 16, 16], "batch"), ([32, 16, 17], "instance")):
        task = {**SEGMENTATION, "roi": roi}
        config(scratch=["unet3d"], networks={"unet3d": {"norm": norm}}, tasks={"a": task})


def test_single_images_are_refused_by_the_resnet() -> None:
    with pytest.raises(ValidationError, match=r"tasks\.b\.batch_size 1: the batch norm"):
        config(scratch=["resnet"], tasks={"b": {**CLASSIFICATION, "batch_size": 1}})
