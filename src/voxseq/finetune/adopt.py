"""The action that turns an encoder from elsewhere into one of the study."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from voxseq.base.errors import IntegrityError
from voxseq.base.files import sha256, write_json
from voxseq.config.outside import file_of
from voxseq.models.outside import read_outside
from voxseq.models.transfer import (
    ENCODER_FILE,
    differing_settings,
    prove_transfer,
    save_encoder,
)

if TYPE_CHECKING:
    from voxseq.config.runs import AdoptRun
    from voxseq.plan.context import RunContext

_LOG = logging.getLogger("voxseq.finetune")


def execute(context: RunContext[AdoptRun]) -> None:
    """Read the file, check that it fits the study, and write it as fine-tuning expects it.

    Writes encoder.safetensors and summary.json. That encoders of this geometry fit the downstream
    networks is proven first.

    Raises:
        IntegrityError: the file is damaged, holds something else or an encoder of another
            geometry, or is another file than the plan saw.
    """
    config = context.config
    prove_transfer(config.encoder, segmentation=config.encoder.has_binary_cubes)
    path = file_of(config.file)
    found = read_outside(path, config.facts)
    differing = differing_settings(
        found.encoder.config.model_dump(mode="json"), config.encoder.model_dump(mode="json")
    )
    if differing:
        raise IntegrityError(
            f"finetune.encoders.{config.method}: {path} is an encoder of another geometry than "
            f"the study's ({'; '.join(differing)})",
            "set encoder.width, depth, heads, mlp_width and patch_size to those of the file: all "
            "rows of a study share one geometry",
        )
    if sha256(path) != config.sha256:
        raise IntegrityError(
            f"{path} changed while the workflow ran", "start the workflow again when it is complete"
        )
    for text in found.left_out:
        _LOG.warning("%s: %s", config.method, text)
    source = {"sha256": config.sha256, **config.facts.model_dump(mode="json")}
    record = {
        "method": config.method,
        "source": source,
        "left_out": list(found.left_out),
        "origin": dict(found.origin),
        # What one of our own files says of its images holds for its weights here too.
        **{key: found.origin[key] for key in ("preprocessing", "data") if key in found.origin},
    }
    save_encoder(context.out / ENCODER_FILE, found.encoder, config.encoder, record)
    weights = sum(p.numel() for p in found.encoder.parameters())
    write_json(
        context.out / "summary.json",
        {"encoder_parameters": weights, "left_out": list(found.left_out), **source},
    )
    write_json(context.state / "cost.json", {"seconds": 0.0})
    _LOG.info("%s: %d weights from %s", config.method, weights, path)
