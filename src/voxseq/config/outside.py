"""Encoders that were trained elsewhere, as the configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from voxseq.config.base import Channels, Model, Shape3, Title


class OutsideFacts(Model):
    """What has to be known of an encoder's file besides its tensors."""

    format: Literal["voxseq", "published", "monai"] = "voxseq"
    """voxseq: an encoder.safetensors; published: a checkpoint of AR-SSL4M; monai: the state of a
    ViT"""
    heads: Channels | None = None
    """attention heads, which the tensors of published and monai do not show"""
    patch_size: Shape3 | None = None
    """voxels of a token; only a perceptron as MONAI's patch embedding does not show it"""
    image_size: Shape3 | None = None
    """monai: voxels of the images that its positions are for; null: a cube"""
    prefix: str = ""
    """monai: beginning of the names that belong to the ViT, such as vit. in a UNETR"""
    exact: bool = True
    """monai: false leaves out what this encoder cannot hold: learned positions, and the lack of a
    class token"""


class OutsideEncoder(OutsideFacts):
    """An encoder trained elsewhere, which is fine-tuned like those of pre-training methods."""

    title: Title
    """name in the tables"""
    path: Annotated[str, Field(min_length=1)]
    """its file; starts from the folder where voxseq runs"""

    def facts(self) -> OutsideFacts:
        """The part that decides what is read from the file."""
        return OutsideFacts.model_validate(self.model_dump(include={*OutsideFacts.model_fields}))


def file_of(path: str) -> Path:
    """The file that ``path`` of an encoder names; ~ is the home folder."""
    return Path(path).expanduser()
