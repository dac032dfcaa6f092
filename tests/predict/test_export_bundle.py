"""Trained models as MONAI bundles: they predict as voxseq does, where it is not installed."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from tests.helpers.bundles import MODELS, card_of, write_case, write_model
from voxseq.base.errors import VoxseqError
from voxseq.config.model import EncoderConfig
from voxseq.models.encoder import build_encoder
from voxseq.models.transfer import ENCODER_FILE, save_encoder
from voxseq.predict.export.bundle import answer_columns, inference, input_shape, metadata
from voxseq.predict.export.run import export
from voxseq.predict.export.texts import bundle_page
from voxseq.predict.model import TrainedModel


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    for name in MODELS:
        write_case(root, name)
    return root


# `make test-bundles` does the same in an environment without voxseq.
@pytest.mark.slow
def test_bundles_predict_the_same_without_voxseq(cases: Path) -> None:
    """Masks on the files' own grids, probabilities and numbers, for every kind of preparation."""
    script = ROOT / "tests/predict/without_voxseq.py"
    done = subprocess.run(
        [sys.executable, str(script), str(cases)],
        capture_output=True,
        text=True,
        cwd=cases,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "all alike"
    compared = [line for line in done.stdout.splitlines() if "same grid" in line]
    masks = [name for name, (_, recipe, *_) in MODELS.items() if recipe["type"] == "segmentation"]
    assert len(compared) == 4 * len(masks)


@pytest.mark.slow
def test_a_bundle_is_a_model_for_voxseq_too(cases: Path) -> None:
    bundle = cases / "spacing/bundle"
    assert {path.name for path in bundle.iterdir()} == {"README.md", "configs", "models", "scripts"}
    assert TrainedModel.load(bundle / "models").card.recipe == card_of("spacing").recipe


def test_its_scripts_import_torch_and_monai_alone(cases: Path) -> None:
    for path in (cases / "spacing/bundle/scripts").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for name in names:
                first = name.split(".")[0]
                assert first in {"torch", "monai"} or first in sys.stdlib_module_names, name


@pytest.mark.parametrize("name", MODELS)
def test_metadata_describes_the_network(name: str) -> None:
    card = card_of(name)
    content = metadata(card, input_shape(card))
    formats = content["network_data_format"]
    assert formats["inputs"]["image"]["num_channels"] == len(card.channels)
    assert formats["outputs"]["pred"]["num_channels"] == card.outputs
    # MONAI's schema for metadata of bundles wants these.
    wanted = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version"}
    wanted |= {"required_packages_version", "task", "description", "authors", "copyright"}
    assert wanted <= content.keys()
    json.dumps([content, inference(card)], allow_nan=False)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("spacing", []),
        ("two_classes", ["probability"]),
        ("three_classes", ["probability_a", "probability_b", "probability_c"]),
        ("number", ["value"]),
    ],
)
def test_columns_are_those_of_a_runs_predictions(name: str, columns: list[str]) -> None:
    assert answer_columns(card_of(name)) == columns


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spacing", ["- 1: organ", "- 2: tumour", "scan_pred.nii.gz", "16 × 16 × 16"]),
        ("two_classes", ["`probability` is that of\nyes, against no"]),
        ("three_classes", ["for each of\na, b, c"]),
        ("number", ["age in a", "`value`"]),
        ("channels", ["2 channels, in this order: t1, t2"]),
    ],
)
def test_its_page_says_what_comes_out(name: str, words: list[str]) -> None:
    card = card_of(name)
    page = bundle_page(card, input_shape(card))
    for word in [*words, card.run, "not a medical device"]:
        assert word in page, page


def _empty(root: Path) -> Path:
    return root


def _encoder(root: Path) -> Path:
    config = EncoderConfig(width=12, depth=1, heads=1, mlp_width=8, patch_size=(4, 4, 4))
    encoder = build_encoder(config, 0, pretraining=True)
    save_encoder(root / ENCODER_FILE, encoder, config, {})
    return root


def _model(root: Path) -> Path:
    return write_model(root, "two_classes")


def _damaged(root: Path) -> Path:
    folder = _model(root)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"damaged!")
    return folder


@pytest.mark.parametrize(
    ("make", "to", "words"),
    [
        (_empty, "bundle", ["no trained model there", "keep_models"]),
        (_empty, "safetensors", ["no encoder there", "pretrain/ours"]),
        (_encoder, "bundle", ["no trained model, of which alone", "--to monai"]),
        (_encoder, "monai", ["--image-size is missing"]),
        (_model, "safetensors", ["a trained model, not an encoder", "--to bundle"]),
        (_damaged, "bundle", ["model.safetensors", "SHA-256"]),
    ],
)
def test_what_cannot_be_exported_is_refused(
    make: Any, to: Any, words: list[str], tmp_path: Path
) -> None:
    source = make(tmp_path / "source")
    out = tmp_path / "out"
    with pytest.raises(VoxseqError) as caught:
        export(source, out, to)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.hint
    assert not out.exists()


def test_files_that_are_in_the_way_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(VoxseqError, match="not empty"):
        export(_model(tmp_path), out, "bundle")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
