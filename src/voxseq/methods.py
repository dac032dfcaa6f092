"""The methods of the study: one row each, in the order of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from voxseq.pretrain.settings.base import MethodSettings
from voxseq.pretrain.settings.dino import DINOSettings
from voxseq.pretrain.settings.mae3d import MAE3DSettings
from voxseq.pretrain.settings.medcoss import MedCoSSSettings
from voxseq.pretrain.settings.moco_v3 import MoCoV3Settings
from voxseq.pretrain.settings.ours import OursSettings
from voxseq.pretrain.settings.pcrlv2 import PCRLv2Settings
from voxseq.pretrain.settings.simclr import SimCLRSettings

TaskType = Literal["segmentation", "classification"]


@dataclass(frozen=True)
class Method:
    """One row of Tables 1 and 2.

    Attributes:
        name: key in the configuration and in folder names.
        title: name printed in tables.
        networks: which network is fine-tuned for each type of task; a type that is absent is
            not part of the method's row.
        settings: configuration model of its pre-training; ``None`` for training from scratch.
        implementation: ``module:class`` of its pre-training.
    """

    name: str
    title: str
    networks: Mapping[TaskType, str]
    settings: type[MethodSettings] | None = None
    implementation: str = ""
    group: str = field(default="self-supervised")

    @property
    def is_pretrained(self) -> bool:
        """Whether fine-tuning starts from a pre-trained encoder."""
        return self.settings is not None


#: Networks around the shared encoder, which alone can take its weights or keep it frozen.
ENCODER_NETWORKS: Mapping[TaskType, str] = {"segmentation": "unetr", "classification": "vit"}

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("unetr", "UNETR", {"segmentation": "unetr"}, group="from scratch"),
        Method("unet3d", "3D UNet", {"segmentation": "unet3d"}, group="from scratch"),
        Method("resnet", "ResNet", {"classification": "resnet"}, group="from scratch"),
        Method("vit", "ViT", {"classification": "vit"}, group="from scratch"),
        Method(
            "simclr",
            "SimCLR",
            ENCODER_NETWORKS,
            settings=SimCLRSettings,
            implementation="voxseq.pretrain.simclr:SimCLRMethod",
        ),
        Method(
            "moco_v3",
            "MoCo v3",
            ENCODER_NETWORKS,
            settings=MoCoV3Settings,
            implementation="voxseq.pretrain.moco_v3:MoCoV3Method",
        ),
        Method(
            "dino",
            "DINO",
            ENCODER_NETWORKS,
            settings=DINOSettings,
            implementation="voxseq.pretrain.dino:DINOMethod",
        ),
        Method(
            "pcrlv2",
            "PCRLv2",
            ENCODER_NETWORKS,
            settings=PCRLv2Settings,
            implementation="voxseq.pretrain.pcrlv2:PCRLv2Method",
        ),
        Method(
            "mae3d",
            "MAE3D",
            ENCODER_NETWORKS,
            settings=MAE3DSettings,
            implementation="voxseq.pretrain.mae3d:MAE3DMethod",
        ),
        Method(
            "medcoss",
            "MedCoSS",
            ENCODER_NETWORKS,
            settings=MedCoSSSettings,
            implementation="voxseq.pretrain.medcoss:MedCoSSMethod",
        ),
        Method(
            "ours",
            "Ours",
            ENCODER_NETWORKS,
            settings=OursSettings,
            implementation="voxseq.pretrain.ours:AutoregressiveMethod",
        ),
    )
}


def pretrained() -> dict[str, Method]:
    """The methods that pre-train an encoder."""
    return {name: m for name, m in METHODS.items() if m.is_pretrained}


def scratch() -> dict[str, Method]:
    """The networks trained from random weights."""
    return {name: m for name, m in METHODS.items() if not m.is_pretrained}
