"""Handing an encoder on."""

import errno
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from voxseq.base.errors import IntegrityError, ResourceError
from voxseq.config.model import EncoderConfig
from voxseq.models import transfer
from voxseq.models.encoder import Encoder, build_encoder
from voxseq.models.transfer import load_encoder, prove_transfer, read_record, save_encoder

CONFIG = EncoderConfig(width=12, depth=2, heads=2, mlp_width=12, patch_size=(4, 4, 4))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, build_encoder(CONFIG, 0, pretraining=True), CONFIG, {"method": "ours"})
    return path


def test_everything_comes_back_with_its_record(saved, caplog):
    encoder = Encoder(CONFIG)
    with caplog.at_level(logging.INFO, logger="voxseq"):
        report = load_encoder(saved, encoder)
    expected = build_encoder(CONFIG, 0, pretraining=True).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    assert (report.loaded, report.skipped) == (len(expected), 0)
    assert report.record == {"method": "ours"}
    assert f"loaded {len(expected)} of {len(expected)}" in caplog.text
    assert read_record(saved)["encoder"]["width"] == 12


@pytest.mark.parametrize("channels", [2, 3])
def test_an_encoder_of_one_channel_goes_into_several(saved, channels):
    """The same image in every channel has the same tokens; other images have others."""
    source, encoder = build_encoder(CONFIG, 0, pretraining=True), Encoder(CONFIG, channels)
    assert load_encoder(saved, encoder).skipped == 0
    image = torch.rand(2, channels, 8, 8, 12, generator=torch.Generator().manual_seed(0))
    same = image[:, :1].expand_as(image)
    expected = source.double()(image[:, :1].double()).tokens
    encoder.double()
    torch.testing.assert_close(encoder(same.double()).tokens, expected, rtol=0, atol=1e-6)
    assert (encoder(image.double()).tokens - expected).abs().max() > 1e-3


def test_an_encoder_of_several_channels_keeps_them(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_encoder(path, build_encoder(CONFIG, 0, pretraining=False, in_channels=2), CONFIG, {})
    encoder = Encoder(CONFIG, 2)
    load_encoder(path, encoder)
    expected = build_encoder(CONFIG, 0, pretraining=False, in_channels=2).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(
        IntegrityError, match=r"patch_embedding\.weight has shape \(12, 2, 4, 4, 4\)"
    ):
        load_encoder(path, Encoder(CONFIG, 3))


def test_a_kernel_that_is_not_divided_is_noticed(monkeypatch):
    def load(path, encoder):
        load_encoder(path, encoder)
        encoder.patch_embedding.weight.data *= encoder.in_channels

    monkeypatch.setattr(transfer, "load_encoder", load)
    with pytest.raises(IntegrityError, match="embeds patches otherwise"):
        prove_transfer(CONFIG, segmentation=False)


def test_same_encoder_same_bytes(saved, tmp_path):
    again = tmp_path / "again.safetensors"
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    save_encoder(again, encoder, CONFIG, {"method": "ours"})
    assert again.read_bytes() == saved.read_bytes()


def test_an_encoder_that_the_machine_cannot_read_is_not_condemned(saved, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(transfer, "safe_open", fail)
    with pytest.raises(
        ResourceError, match=r"cannot be read \(Input/output error\)\n  next: check that disk"
    ):
        load_encoder(saved, Encoder(CONFIG))


def test_another_geometry_is_refused_by_name(saved):
    other = CONFIG.model_copy(update={"depth": 3, "heads": 3})
    with pytest.raises(IntegrityError, match=r"depth: file 2, network 3; heads: file 2, network 3"):
        load_encoder(saved, Encoder(other))


def test_tensors_that_do_not_fit_are_refused_by_name(saved, tmp_path):
    encoder = build_encoder(CONFIG, 0, pretraining=True)
    del encoder.norm
    encoder.extra = torch.nn.Linear(2, 2)
    path = tmp_path / "other.safetensors"
    save_encoder(path, encoder, CONFIG, {})
    target = Encoder(CONFIG)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(IntegrityError, match=r"missing norm\.weight.*unexpected extra\.weight"):
        load_encoder(path, target)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_damaged_missing_and_foreign_files_are_refused(saved, tmp_path):
    with pytest.raises(IntegrityError, match="no such"):
        load_encoder(tmp_path / "nothing", Encoder(CONFIG))
    cut = tmp_path / "cut"
    cut.write_bytes(saved.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match="not readable"):
        load_encoder(cut, Encoder(CONFIG))
    foreign = tmp_path / "foreign"
    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(IntegrityError, match="not an encoder file"):
        load_encoder(foreign, Encoder(CONFIG))


def test_transfer_is_proven_for_every_network():
    prove_transfer(CONFIG)
    flat = CONFIG.model_copy(update={"patch_size": (4, 4, 2)})
    prove_transfer(flat, segmentation=False)
    with pytest.raises(ValueError, match="power of two"):
        prove_transfer(flat)
