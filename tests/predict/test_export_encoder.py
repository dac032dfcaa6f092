"""Encoders for other programs: their weights, what is said of them, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from monai.networks.nets import ViT

from voxseq.base.errors import ConfigError
from voxseq.cli.main import cli
from voxseq.config.model import EncoderConfig
from voxseq.config.outside import OutsideFacts
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.outside import read_outside
from voxseq.models.transfer import ENCODER_FILE, open_encoder, save_encoder
from voxseq.predict.export.run import export

IMAGE = (16, 8, 8)
CONFIG = EncoderConfig(width=24, depth=2, heads=3, mlp_width=40, patch_size=(4, 4, 4))
RECORD: dict[str, Any] = {
    "method": "ours",
    "selected_step": 1200,
    "preprocessing": {"percentiles": [0.5, 99.5], "window_shape": [16, 16, 16]},
    "data": [
        {"dataset": "amos22", "kind": "spatial", "licence": "CC BY 4.0"},
        {"dataset": "mine", "kind": "spatial", "licence": ""},
    ],
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return build_encoder(CONFIG, 2, pretraining=True).eval()


@pytest.fixture(scope="module")
def source(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    save_encoder(folder / ENCODER_FILE, encoder, CONFIG, RECORD)
    return folder


@pytest.mark.parametrize("projection", ["conv", "perceptron"])
def test_what_the_page_says_gives_the_same_tokens(
    projection: Any, encoder: Encoder, source: Path, tmp_path: Path
) -> None:
    """The lines of the README, on the files beside it."""
    written = export(source, tmp_path / "out", "monai", image_size=IMAGE, projection=projection)
    folder = tmp_path / "out"
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    vit = ViT(**json.loads((folder / "vit.json").read_text()))
    vit.load_state_dict(torch.load(folder / "vit.pt", weights_only=True), strict=True)
    image = torch.rand(2, 1, *IMAGE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, blocks = vit.eval()(image)
        tokens = vit.norm(blocks[-1])[:, 1:]
        wanted = encoder(image)
    torch.testing.assert_close(tokens, wanted.tokens, rtol=0, atol=1e-5)
    # As the page says of the head.
    del vit.classification_head
    with torch.no_grad():
        everything = vit(image)[0]
    torch.testing.assert_close(everything[:, 0], wanted.start, rtol=0, atol=1e-5)
    torch.testing.assert_close(everything[:, 1:], wanted.tokens, rtol=0, atol=1e-5)


def test_an_exported_vit_is_an_encoder_again(
    encoder: Encoder, source: Path, tmp_path: Path
) -> None:
    export(source, tmp_path / "out", "monai", image_size=IMAGE)
    facts = OutsideFacts(format="monai", heads=3, image_size=IMAGE)
    back = read_outside(tmp_path / "out/vit.pt", facts).encoder
    assert all(torch.equal(back.state_dict()[k], v) for k, v in encoder.state_dict().items())


def test_our_own_file_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    export(source / ENCODER_FILE, tmp_path / "out", "safetensors")
    copied = tmp_path / "out" / ENCODER_FILE
    assert copied.read_bytes() == (source / ENCODER_FILE).read_bytes()
    assert open_encoder(copied)[1] == RECORD


@pytest.mark.parametrize("to", ["safetensors", "monai"])
def test_the_adaptation_plan_names_keys_of_the_state(to: Any, source: Path, tmp_path: Path) -> None:
    export(source, tmp_path / "out", to, image_size=IMAGE)
    plan = json.loads((tmp_path / "out/adaptation_plan.json").read_text())
    if to == "monai":
        state = torch.load(tmp_path / "out/vit.pt", weights_only=True)
    else:
        state = open_encoder(tmp_path / "out" / ENCODER_FILE)[0].state_dict()
    for key in (plan["key_to_encoder"], plan["key_to_stem"], *plan["keys_to_in_proj"]):
        assert any(name.startswith(f"{key}.") for name in state), key
    assert plan["key_to_lpe"] is None or plan["key_to_lpe"] in state
    assert plan["pretrain_num_input_channels"] == 1
    wanted = list(IMAGE) if to == "monai" else [16, 16, 16]
    assert plan["recommended_downstream_patchsize"] == wanted
    assert plan["pretrain_plan"] == RECORD


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (RECORD, ["`ours`, weights of step 1200", "percentiles: [0.5, 99.5]", "amos22: CC BY 4.0"]),
        (RECORD, ["mine: not stated by any source"]),
        ({}, ["names no data sets", "does not say how images were prepared"]),
        ({"left_out": ["its positions"]}, ["What differs from the original", "- its positions"]),
        (
            {"method": "theirs", "source": {"format": "published", "sha256": "0a1b"}},
            ["**trained elsewhere** and read by voxseq as `theirs`", "published (SHA-256 `0a1b`)"],
        ),
    ],
)
def test_the_page_says_where_an_encoder_comes_from(
    record: dict[str, Any], words: list[str], encoder: Encoder, tmp_path: Path
) -> None:
    save_encoder(tmp_path / ENCODER_FILE, encoder, CONFIG, record)
    for to in ("safetensors", "monai"):
        export(tmp_path / ENCODER_FILE, tmp_path / to, to, image_size=IMAGE)
        page = (tmp_path / to / "README.md").read_text()
        assert all(word in page for word in [*words, "24, 2, 3, 40", "4 × 4 × 4"]), page


def test_an_image_that_tokens_do_not_divide_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of the token"):
        export(source, tmp_path / "out", "monai", image_size=(16, 8, 9))


def test_the_command_lists_its_files(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["export", str(source), "--to", "monai", "-o", str(out), "--image-size", "16", "8", "8"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert {Path(line).name for line in done.output.splitlines()} == {p.name for p in out.iterdir()}


def test_the_command_names_what_it_does_not_find(tmp_path: Path) -> None:
    words = ["export", "pretrain/nobody", "--to", "safetensors", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(cli, words)
    assert "pretrain/nobody" in str(done.exception)
    assert "no run of this configuration" in str(done.exception)
