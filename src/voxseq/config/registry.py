"""The methods of the study: one row each, in the order of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxseq.config.methods.base import MethodSettings
from voxseq.config.methods.dino import DINOSettings
from voxseq.config.methods.mae3d import MAE3DSettings
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.config.methods.moco_v3 import MoCoV3Settings
from voxseq.config.methods.ours import OursSettings
from voxseq.config.methods.pcrlv2 import PCRLv2Settings
from voxseq.config.methods.simclr import SimCLRSettings
from voxseq.config.task_types import TaskType


@dataclass(frozen=True)
class Method:
    """One row of Tables 1 and 2.

    Attributes:
        name: key in the configuration and in folder names.
        title: name printed in tables.
        networks: which network is fine-tuned for each type of task; a type that is absent is
            not part of the method's row.
        settings: configuration model of its pre-training; ``None`` for training from scratch.
        implementation: ``module:class`` of its pre-training; a leading dot stands for
            :mod:`voxseq.pretrain.methods`.
        is_outside: whether its encoder was trained elsewhere and is read from a file.
    """

    name: str
    title: str
    networks: Mapping[TaskType, str]
    settings: type[MethodSettings] | None = None
    implementation: str = ""
    group: str = "self-supervised"
    is_outside: bool = False

    @property
    def is_pretrained(self) -> bool:
        """Whether fine-tuning starts from a pre-trained encoder."""
        return self.settings is not None or self.is_outside


#: Networks around the shared encoder, which alone can take its weights or keep it frozen.
ENCODER_NETWORKS: Mapping[TaskType, str] = {
    "segmentation": "unetr",
    "classification": "vit",
    "regression": "vit",
}

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("unetr", "UNETR", {"segmentation": "unetr"}, group="from scratch"),
        Method("unet3d", "3D UNet", {"segmentation": "unet3d"}, group="from scratch"),
        Method(
            "resnet",
            "ResNet",
            {"classification": "resnet", "regression": "resnet"},
            group="from scratch",
        ),
        Method("vit", "ViT", {"classification": "vit", "regression": "vit"}, group="from scratch"),
        Method("simclr", "SimCLR", ENCODER_NETWORKS, SimCLRSettings, ".simclr:SimCLRMethod"),
        Method("moco_v3", "MoCo v3", ENCODER_NETWORKS, MoCoV3Settings, ".moco_v3:MoCoV3Method"),
        Method("dino", "DINO", ENCODER_NETWORKS, DINOSettings, ".dino:DINOMethod"),
        Method("pcrlv2", "PCRLv2", ENCODER_NETWORKS, PCRLv2Settings, ".pcrlv2:PCRLv2Method"),
        Method("mae3d", "MAE3D", ENCODER_NETWORKS, MAE3DSettings, ".mae3d:MAE3DMethod"),
        Method("medcoss", "MedCoSS", ENCODER_NETWORKS, MedCoSSSettings, ".medcoss:MedCoSSMethod"),
        Method(
            "ours",
            "AR (autoregressive)",
            ENCODER_NETWORKS,
            OursSettings,
            ".ours:AutoregressiveMethod",
        ),
    )
}


def pretrained() -> dict[str, Method]:
    """The methods that pre-train an encoder."""
    return {name: m for name, m in METHODS.items() if m.is_pretrained}


def scratch() -> dict[str, Method]:
    """The networks trained from random weights."""
    return {name: m for name, m in METHODS.items() if not m.is_pretrained}
