"""The rows of a study: networks, methods, and encoders from elsewhere, with their checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from voxseq.base.files import size_of
from voxseq.config.outside import OutsideEncoder, OutsideFacts, file_of
from voxseq.config.problems import Problem
from voxseq.config.registry import ENCODER_NETWORKS, METHODS, Method

if TYPE_CHECKING:
    from voxseq.config.root import Config

#: Heading above the rows in the tables.
GROUP = "encoders from elsewhere"
_KEY = "finetune.encoders"


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
