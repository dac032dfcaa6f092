"""Encoders that were trained elsewhere, and the rows of a study that they become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from voxseq.base.files import size_of
from voxseq.config.base import Channels, Model, Shape3, Title
from voxseq.config.problems import Problem
from voxseq.config.registry import ENCODER_NETWORKS, METHODS, Method

if TYPE_CHECKING:
    from voxseq.config.root import Config

#: Heading above the rows in the tables.
GROUP = "encoders from elsewhere"
_KEY = "finetune.encoders"


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


def study_methods(config: Config) -> dict[str, Method]:
    """The rows of a study by name, in table order: networks, methods, encoders from elsewhere."""
    wanted = {*config.finetune.scratch, *config.pretrain.methods}
    rows = {name: method for name, method in METHODS.items() if name in wanted}
    for name, encoder in sorted(config.finetune.encoders.items()):
        rows[name] = Method(name, encoder.title, ENCODER_NETWORKS, group=GROUP, is_outside=True)
    return rows


def of_outside(config: Config) -> Iterator[Problem]:
    """Encoders whose file is not there, whose name is taken, or of which too little is known."""
    for name, encoder in config.finetune.encoders.items():
        key = f"{_KEY}.{name}"
        if name in METHODS:
            yield Problem(key, f"{name} is the name of a method of voxseq; expected another one")
        if size_of(file_of(encoder.path)) is None:
            yield Problem(
                f"{key}.path",
                f"there is no file {encoder.path}; expected the path of an encoder, absolute or "
                "starting from the folder where voxseq runs",
            )
        yield from _geometry(config, key, encoder)


def _geometry(config: Config, key: str, encoder: OutsideEncoder) -> Iterator[Problem]:
    """What is said of the encoder against the geometry of the study's."""
    if encoder.heads is None and encoder.format != "voxseq":
        yield Problem(
            f"{key}.heads",
            f"missing: tensors of the format {encoder.format} do not show the number of heads",
        )
    for name in ("heads", "patch_size"):
        said, wanted = getattr(encoder, name), getattr(config.encoder, name)
        if said is not None and said != wanted:
            yield Problem(
                f"{key}.{name}",
                f"{said}, but encoder.{name} of the study is {wanted}: all rows share one "
                "geometry; set encoder.width, depth, heads, mlp_width and patch_size to those of "
                "the file",
            )
    if encoder.image_size is not None and (misfit := config.encoder.misfit(encoder.image_size)):
        yield Problem(f"{key}.image_size", misfit)
    if encoder.format != "monai":
        for name in ("image_size", "prefix", "exact"):
            if name in encoder.model_fields_set and (
                getattr(encoder, name) != OutsideFacts.model_fields[name].default
            ):
                yield Problem(f"{key}.{name}", f"only for the format monai, not {encoder.format}")
