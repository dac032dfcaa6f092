"""Encoders from elsewhere: read in every format, refused by name where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.finetune_store import GEOMETRY
from tests.models.test_published import random_state
from voxseq.base.errors import IntegrityError
from voxseq.base.files import read_json, sha256
from voxseq.config.model import EncoderConfig
from voxseq.config.outside import OutsideFacts
from voxseq.config.runs import AdoptRun
from voxseq.finetune import adopt
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.monai_vit import to_monai
from voxseq.models.published import load_encoder as load_published
from voxseq.models.transfer import ENCODER_FILE, load_encoder, read_record, save_encoder
from voxseq.plan.context import RunContext

IMAGE = (8, 8, 8)
VOLUME = torch.rand(1, 1, *IMAGE, generator=torch.Generator().manual_seed(1))
ENCODER = build_encoder(GEOMETRY, 4, pretraining=True)
PUBLISHED = random_state(GEOMETRY.patch_size, GEOMETRY.width, GEOMETRY.depth, GEOMETRY.mlp_width)


def ours(path: Path) -> None:
    record = {"method": "mine", "selected_step": 7, "preprocessing": {"length": 4}}
    save_encoder(path, ENCODER, GEOMETRY, record)


def published(path: Path) -> None:
    torch.save({"state_dict": PUBLISHED, "epoch": 3}, path)


def monai(path: Path) -> None:
    torch.save(to_monai(ENCODER, IMAGE).state, path)


def unetr(path: Path) -> None:
    """The ViT is a part of a network."""
    state = {f"vit.{key}": value for key, value in to_monai(ENCODER, IMAGE).state.items()}
    save_file({**state, "decoder.weight": torch.ones(2)}, path)


def learned(path: Path) -> None:
    state = to_monai(ENCODER, IMAGE).state
    state["patch_embedding.position_embeddings"] += 1.0
    torch.save(state, path)


def run_of(path: Path, facts: dict[str, Any], encoder: EncoderConfig = GEOMETRY) -> AdoptRun:
    digest = sha256(path) if path.is_file() else ""
    given = OutsideFacts.model_validate(facts)
    return AdoptRun(method="theirs", file=str(path), sha256=digest, facts=given, encoder=encoder)


def adopted(run: AdoptRun, folder: Path) -> Path:
    out, state = folder / "out", folder / "state"
    out.mkdir()
    state.mkdir()
    adopt.execute(RunContext("pretrain/theirs", run, out, state, {}, None))
    return out


FORMATS: list[tuple[Callable[[Path], None], str, dict[str, Any]]] = [
    (ours, "encoder.safetensors", {"format": "voxseq"}),
    (published, "checkpoint.pth", {"format": "published", "heads": 2}),
    (monai, "vit.pt", {"format": "monai", "heads": 2}),
    (unetr, "unetr.safetensors", {"format": "monai", "heads": 2, "prefix": "vit."}),
    (learned, "vit.pt", {"format": "monai", "heads": 2, "exact": False}),
]


@pytest.mark.parametrize(
    ("write", "name", "facts"), FORMATS, ids=[write.__name__ for write, _, _ in FORMATS]
)
def test_every_format_becomes_an_encoder_of_the_study(
    write: Callable[[Path], None], name: str, facts: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path)
    out = adopted(run_of(path, facts), tmp_path)
    encoder = Encoder(GEOMETRY)
    load_encoder(out / ENCODER_FILE, encoder)
    with torch.no_grad():
        found = encoder(VOLUME).tokens
        if write is published:
            sizes = {"img_size": IMAGE, "patch_size": GEOMETRY.patch_size, "num_heads": 2}
            wanted = load_published(PUBLISHED, **sizes)(VOLUME)[0]
        else:
            wanted = ENCODER(VOLUME).tokens
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    record = read_record(out / ENCODER_FILE)["record"]
    assert record["method"] == "theirs"
    assert record["source"]["sha256"] == sha256(path)
    assert len(record["left_out"]) == (write is learned)
    assert record["origin"].get("selected_step") == (7 if write is ours else None)
    assert record.get("preprocessing") == ({"length": 4} if write is ours else None)
    assert read_json(out / "summary.json")["encoder_parameters"] == sum(
        p.numel() for p in ENCODER.parameters()
    )


def damaged(path: Path) -> None:
    ours(path)
    path.write_bytes(path.read_bytes()[:-50])


def infinite(path: Path) -> None:
    state = to_monai(ENCODER, IMAGE).state
    state["norm.weight"] = torch.full_like(state["norm.weight"], torch.nan)
    torch.save(state, path)


def pickled(path: Path) -> None:
    torch.save({"state_dict": PUBLISHED, "arguments": Path("x")}, path)


def foreign(path: Path) -> None:
    torch.save({"conv.weight": torch.ones(2)}, path)


REFUSED: list[tuple[Callable[[Path], None], str, dict[str, Any], list[str]]] = [
    (lambda _: None, "none.pt", {"format": "monai", "heads": 2}, ["no such"]),
    (lambda _: None, "none.safetensors", {}, ["no such encoder file"]),
    (damaged, "cut.safetensors", {}, ["not readable as an encoder"]),
    (monai, "vit.pt", {"format": "published", "heads": 2}, ["patchifier", "published code"]),
    (published, "a.pt", {"format": "monai", "heads": 2}, ["patch_embeddings", "MONAI"]),
    (learned, "vit.pt", {"format": "monai", "heads": 2}, ["positions", "exact: false"]),
    (infinite, "vit.pt", {"format": "monai", "heads": 2}, ["not finite: norm.weight"]),
    (pickled, "a.pt", {"format": "published", "heads": 2}, ["nothing in it is executed"]),
    (foreign, "a.pt", {"format": "published", "heads": 2}, ["patchifier"]),
    (lambda p: p.write_text("x"), "a.pt", {"format": "monai", "heads": 2}, ["a.pt"]),
    (monai, "vit.pt", {"format": "monai", "heads": 3}, ["another geometry", "heads: file 3"]),
]


@pytest.mark.parametrize(("write", "name", "facts", "words"), REFUSED)
def test_what_does_not_fit_is_refused_by_name(
    write: Callable[[Path], None],
    name: str,
    facts: dict[str, Any],
    words: list[str],
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    write(path)
    with pytest.raises(IntegrityError) as caught:
        adopted(run_of(path, facts), tmp_path)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "out" / ENCODER_FILE).exists()


def test_an_encoder_of_another_geometry_names_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    ours(path)
    other = GEOMETRY.model_copy(update={"depth": 3})
    with pytest.raises(IntegrityError, match="depth: file 2, network 3"):
        adopted(run_of(path, {}, other), tmp_path)


def test_a_file_that_is_replaced_after_planning_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    ours(path)
    run = run_of(path, {})
    save_encoder(path, ENCODER, GEOMETRY, {"method": "another"})
    with pytest.raises(IntegrityError, match="changed while"):
        adopted(run, tmp_path)
