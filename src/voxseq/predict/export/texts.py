"""The README of what is exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from voxseq.models.bundle import ModelCard
from voxseq.models.encoder import Encoder


def encoder_page(
    encoder: Encoder,
    record: Mapping[str, Any],
    files: Mapping[str, str],
    arguments: Mapping[str, Any] | None = None,
) -> str:
    """Model card of an encoder.

    Args:
        encoder: the encoder.
        record: of its file; what it does not say is said to be unknown.
        files: names of the files beside the card, and what they are.
        arguments: of MONAI's ViT, where it is one.
    """
    return _page(
        "encoder.md",
        config=encoder.config,
        method=record.get("method", "unknown"),
        step=record.get("selected_step"),
        weights=sum(p.numel() for p in encoder.parameters()),
        files=files,
        arguments=arguments,
        shape=[] if arguments is None else arguments["img_size"],
        preparation=record.get("preprocessing") or {},
        licences={part["dataset"]: part.get("licence") for part in record.get("data") or []},
        source=record.get("source"),
        left_out=record.get("left_out") or [],
    )


def bundle_page(card: ModelCard, shape: tuple[int, int, int]) -> str:
    """README of a bundle whose network gets ``shape`` voxels."""
    is_segmentation = card.recipe.type == "segmentation"
    return _page("bundle.md", card=card, shape=shape, is_segmentation=is_segmentation)


def _page(name: str, **content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("voxseq.predict.export", "pages"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        # The pages are Markdown, of which nothing is escaped.
        autoescape=select_autoescape(),
    )
    return environment.get_template(name).render(**content)
