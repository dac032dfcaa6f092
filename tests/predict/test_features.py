"""Features of whole images, and the names that a Python user imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import voxseq
from tests.helpers import ROOT
from tests.helpers.calling import Call
from tests.helpers.finetune_store import GEOMETRY
from tests.helpers.trained import AFFINE, SHAPE, Trained
from voxseq.base.errors import ConfigError, IntegrityError
from voxseq.data.grid import to_ras
from voxseq.data.readers import nifti
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.transfer import ENCODER_FILE, save_encoder
from voxseq.predict.features import FeatureExtractor

#: Crops of 12 voxels become volumes of 8: two voxels for three.
RECORD = {
    "preprocessing": {"crop_shape": [8, 8, 12], "window_shape": [8, 8, 8], "percentiles": [1, 99]}
}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    made = build_encoder(GEOMETRY, 5, pretraining=True)
    save_encoder(tmp_path / "pre" / ENCODER_FILE, made, GEOMETRY, RECORD)
    return tmp_path / "pre"


def test_tokens_are_those_of_the_encoder_on_scaled_tiles(
    encoder: Path, trained: dict[str, Trained]
) -> None:
    path = sorted(trained["segmentation"].images.iterdir())[0]
    found = voxseq.features(encoder, path)
    array, _ = to_ras(nifti.read(path.parent, path.name))
    # The axes of the file are left, inferior, posterior: y and z change places.
    assert array.shape == (SHAPE[0], SHAPE[2], SHAPE[1]) == (17, 13, 15)
    assert found.tokens.shape == (5, 4, 3, GEOMETRY.width)
    # The first tile, by hand; its last axis has 15 voxels on 10, that is two thirds.
    places = (np.arange(10) + 0.5) * 1.5 - 0.5
    low = np.floor(places).clip(0, 14).astype(int)
    share = (places - low).astype(np.float32)
    resized = array[..., low] * (1 - share) + array[..., np.minimum(low + 1, 14)] * share
    tile = resized[:8, :8, :8].astype(np.float32)
    ends = np.percentile(tile, [1, 99])
    tile = ((tile - ends[0]) / (ends[1] - ends[0])).clip(0, 1)
    module = voxseq.load_encoder(encoder)
    with torch.no_grad():
        expected = module(torch.from_numpy(tile.astype(np.float32))[None, None]).tokens[0]
    np.testing.assert_allclose(found.tokens[:2, :2, :2].reshape(8, -1), expected.numpy(), atol=1e-4)
    pooled = found.tokens.reshape(-1, GEOMETRY.width).mean(axis=0)
    np.testing.assert_allclose(found.pooled, pooled, atol=1e-6)
    whole = FeatureExtractor.load(encoder).extract(path, "volume")
    assert not np.allclose(whole.tokens, found.tokens)


def test_places_of_tokens_are_in_the_image(encoder: Path, trained: dict[str, Trained]) -> None:
    path = sorted(trained["segmentation"].images.iterdir())[0]
    affine = voxseq.features(encoder, path).affine
    # Right, anterior, superior from the corner of the image: 4 voxels a token, the last axis of 6.
    assert np.allclose(affine[:3, :3], np.diag([4 * 1.5, 4 * 1.0, 6 * 1.2]), rtol=1e-6)
    corner = AFFINE @ [SHAPE[0] - 1, SHAPE[1] - 1, SHAPE[2] - 1, 1]
    inner = np.array([1.5 * 1.5, 1.5 * 1.0, 2.5 * 1.2])
    np.testing.assert_allclose(affine[:3, 3], corner[:3] + inner, rtol=1e-6)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_a_fine_tuned_model_gives_features_of_prepared_images(
    kind: str, trained: dict[str, Trained]
) -> None:
    path = sorted(trained[kind].images.iterdir())[0]
    found = voxseq.features(trained[kind].folder, path)
    assert np.isfinite(found.tokens).all()
    model = voxseq.load_model(trained[kind].folder)
    prepared = model.prepare([nifti.read(path.parent, path.name)])
    grid = tuple(-(-n // 4) for n in prepared.image.shape[1:])
    assert found.tokens.shape == (*grid, GEOMETRY.width)
    if kind == "classification":
        with torch.no_grad():
            network = model._members[0].network
            inner = network.get_submodule("encoder")(torch.from_numpy(prepared.image)[None]).tokens
        np.testing.assert_allclose(found.pooled, inner[0].mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("ending", [".npz", ".csv", ".parquet"])
@pytest.mark.parametrize("tokens", [True, False])
def test_files_of_features(
    ending: str,
    tokens: bool,
    encoder: Path,
    trained: dict[str, Trained],
    tmp_path: Path,
    call: Call,
) -> None:
    images, out = trained["segmentation"].images, tmp_path / f"f{ending}"
    call("features", encoder, images, "-o", out, "--tokens" if tokens else "--pooled")
    expected = voxseq.features(encoder, images / "test1.nii.gz")
    if ending == ".npz":
        with np.load(out) as found:
            assert found["names"].tolist() == ["test0", "test1", "test2"]
            np.testing.assert_array_equal(found["pooled"][1], expected.pooled)
            assert ("tokens/test1" in found) is tokens
            if tokens:
                np.testing.assert_array_equal(found["tokens/test1"], expected.tokens)
                np.testing.assert_array_equal(found["affine/test1"], expected.affine)
        return
    frame = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    frame = frame[frame["case"] == "test1"]
    columns = [f"f{n}" for n in range(GEOMETRY.width)]
    wanted = expected.tokens.reshape(-1, GEOMETRY.width) if tokens else expected.pooled[None]
    np.testing.assert_allclose(frame[columns], wanted, rtol=1e-6, atol=1e-8)
    if tokens:
        assert frame[["x", "y", "z"]].iloc[-1].tolist() == [4, 3, 2]


def test_bad_calls_say_why(
    encoder: Path, trained: dict[str, Trained], tmp_path: Path, call: Call
) -> None:
    images = trained["segmentation"].images
    assert (
        "expected a file that ends"
        in call("features", encoder, images, "-o", tmp_path / "x.txt", status=2).err
    )
    assert (
        "no encoder" in call("features", tmp_path, images, "-o", tmp_path / "x.npz", status=2).err
    )
    (tmp_path / "bad.nii.gz").write_text("no image")
    said = call(
        *("features", encoder, images, tmp_path / "bad.nii.gz", "-o", tmp_path / "x.npz"), status=1
    )
    assert "no features: bad: " in said.err
    save_encoder(tmp_path / "old" / ENCODER_FILE, Encoder(GEOMETRY), GEOMETRY, {})
    with pytest.raises(IntegrityError, match="does not tell how images were prepared"):
        voxseq.features(tmp_path / "old", images / "test0.nii.gz")
    # Its encoder can be used all the same.
    assert isinstance(voxseq.load_encoder(tmp_path / "old"), Encoder)


def test_a_network_without_the_encoder_has_no_features(tmp_path: Path) -> None:
    from tests.models.test_bundle import card
    from voxseq.models.bundle import network_of, save_model

    given = card("resnet")
    save_model(tmp_path, network_of(given), given)
    with pytest.raises(ConfigError, match="a resnet has no shared encoder"):
        voxseq.features(tmp_path, "x.nii.gz")


def test_importing_voxseq_loads_nothing_heavy() -> None:
    code = (
        "import sys, voxseq; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert {"load_encoder", "load_model", "features"} <= set(dir(voxseq))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = voxseq.nothing
