"""Stages of a pre-training: fresh optimiser, own schedule, exact resume."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.fake_streams import record_streams
from tests.helpers.sequence_store import KINDS, config, sampler
from voxseq.base.random import numpy_generator
from voxseq.config.execution import DeviceConfig
from voxseq.config.methods import MethodSettings
from voxseq.config.model import EncoderConfig, OptimiserConfig
from voxseq.config.registry import METHODS, Method
from voxseq.config.runs import PretrainRun
from voxseq.data.store import VolumeStore
from voxseq.models.transfer import ENCODER_FILE, read_record
from voxseq.plan.context import RunContext
from voxseq.pretrain import run
from voxseq.pretrain.base import PretrainMethod
from voxseq.pretrain.batching import Batching
from voxseq.pretrain.run import staged_lr_factor
from voxseq.training.copies import _ahead

STEPS = 8
OPTIMISER = OptimiserConfig(lr=1e-2, warmup_steps=1)


class StageBatching(Batching):
    """Chooses by a number that the stage before ended with."""

    memory = 0.0

    def choose(self, data, step, size, slot):
        TwoStages.calls.append(("choice", step))
        return (int(1000 * self.memory) + step + slot) % len(data), rng(slot)


class TwoStages(PretrainMethod):
    """Pulls the tokens to zero; the second stage knows a number that the first one ended with."""

    batching_type = StageBatching
    calls: list[tuple[str, int]] = []  # noqa: RUF012
    fail_after: int | None = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("memory", torch.zeros(1))

    def stages(self, steps):
        return (range(steps // 2), range(steps // 2, steps))

    def begin_stage(self, number, data, work=None):
        self.calls.append(("stage", number))
        self.memory.fill_(float(self.backbone.start_token.detach().sum()) + len(data))
        self.inform_batching()

    def inform_batching(self):
        self.batching.memory = float(self.memory)

    def training_loss(self, batch, step, generator):
        return {"loss": self.backbone(batch["volume"]).tokens.square().mean()}

    def validation_loss(self, batch, generator):
        return self.training_loss(batch, 0, generator)

    def after_step(self, step, total):
        self.calls.append(("update", step))
        if step == self.fail_after:
            type(self).fail_after = None
            raise RuntimeError("power cut")


def rng(number: int):
    return numpy_generator(0, "toy", number)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sampler(tmp_path / "data")
    row = Method("toy", "Toy", {}, settings=MethodSettings, implementation="toy_stages:TwoStages")
    monkeypatch.setitem(METHODS, "toy", row)
    monkeypatch.setitem(sys.modules, "toy_stages", SimpleNamespace(TwoStages=TwoStages))
    monkeypatch.setattr(TwoStages, "calls", [])
    monkeypatch.setattr(TwoStages, "fail_after", None)
    sequences = config()
    encoder = EncoderConfig(width=12, depth=1, heads=2, mlp_width=12, patch_size=(2, 2, 2))
    stores = {f"preprocess/source/{p.name}": p for p in (tmp_path / "data/store").iterdir()}

    def make(name: str) -> RunContext[PretrainRun]:
        for folder in ("out", "state"):
            (tmp_path / name / folder).mkdir(parents=True, exist_ok=True)
        return RunContext(
            run_id="pretrain/toy",
            config=PretrainRun(
                method="toy",
                settings=MethodSettings(optimiser=OPTIMISER),
                encoder=encoder,
                sequences=sequences,
                kinds=KINDS,
                **{"seed": 1, "batch_size": 2, "steps": STEPS, "validation_sequences": 4},
                **{"log_every": 1, "validate_every": 4, "checkpoint_every": 1},
            ),
            out=tmp_path / name / "out",
            state=tmp_path / name / "state",
            inputs={"sequences/all": tmp_path / "data/index", **stores},
            data_root=None,
        )

    return make


def test_a_stage_begins_between_the_batches_of_two_stages(context):
    """Two items a batch; the weights that a stage begins with are those of its last update."""
    run.execute(context("straight"))
    steps = [[*[("choice", step)] * 2, ("update", step)] for step in range(STEPS)]
    first, second = (list(chain(*part)) for part in (steps[:4], steps[4:]))
    assert TwoStages.calls == [("stage", 0), *first, ("stage", 1), *second]


def test_workers_that_are_ahead_wait_for_the_next_stage(context):
    """They choose by what a stage began with, so they are started for each."""
    run.execute(context("straight"))
    TwoStages.calls.clear()
    run.execute(replace(context("helped"), workers=2))
    updates = [("update", step) for step in range(STEPS)]
    assert TwoStages.calls == [("stage", 0), *updates[:4], ("stage", 1), *updates[4:]]
    straight, helped = (context(name).out / ENCODER_FILE for name in ("straight", "helped"))
    assert straight.read_bytes() == helped.read_bytes()


def test_an_encoder_tells_how_its_images_were_prepared_and_whose_they_are(context):
    made = context("straight")
    names = {source.dataset for source in made.config.sequences.sources}
    licences = dict.fromkeys(names, "CC BY 4.0")
    run.execute(replace(made, config=made.config.model_copy(update={"licences": licences})))
    record = read_record(made.out / ENCODER_FILE)["record"]
    sequences = made.config.sequences
    assert record["preprocessing"]["percentiles"] == list(sequences.percentiles)
    assert record["preprocessing"]["crop_shape"] == list(sequences.spatial.crop_shape)
    assert record["preprocessing"]["volume_shape"] == list(sequences.volume_shape)
    assert {one["dataset"] for one in record["data"]} == names
    assert {one["licence"] for one in record["data"]} == {"CC BY 4.0"}


def test_batches_that_travel_ahead_wait_for_the_next_stage(context, monkeypatch):
    """As on a GPU, where the next batch is copied before the one at hand is handed out."""
    run.execute(context("straight"))
    TwoStages.calls.clear()
    record_streams(monkeypatch)
    device = torch.device("cpu")
    monkeypatch.setattr(run, "travelling", lambda batches, task: _ahead(batches, task, device))
    run.execute(context("ahead"))
    main = [call for call in TwoStages.calls if call[0] != "choice"]
    updates = [("update", step) for step in range(STEPS)]
    assert main == [("stage", 0), *updates[:4], ("stage", 1), *updates[4:]]
    # The second batch of a stage is there before the first update.
    assert TwoStages.calls[:6] == [
        ("stage", 0),
        *[("choice", 0)] * 2,
        *[("choice", 1)] * 2,
        ("update", 0),
    ]


def test_a_stage_gets_the_runs_folder_of_state_and_its_precision(context, monkeypatch):
    given = []
    monkeypatch.setattr(TwoStages, "begin_stage", lambda *arguments: given.append(arguments[3]))
    made = context("work")
    run.execute(made)
    assert [(work.state, work.precision) for work in given] == [(made.state, "32-true")] * 2


@pytest.mark.parametrize("last", [2, 3, 5])
def test_a_run_cut_in_any_stage_ends_with_the_same_weights(context, last):
    run.execute(context("straight"))
    TwoStages.fail_after = last
    with pytest.raises(RuntimeError, match="power cut"):
        run.execute(context("cut"))
    TwoStages.calls.clear()
    run.execute(context("cut"))
    assert ("stage", 0) not in TwoStages.calls
    straight, cut = (context(name).out / ENCODER_FILE for name in ("straight", "cut"))
    assert straight.read_bytes() == cut.read_bytes()


def test_volumes_on_a_local_disk_give_the_same_weights(context, tmp_path, monkeypatch):
    run.execute(context("straight"))
    opened, real = [], VolumeStore.__init__

    def noted(store, folder, *args):
        opened.append(folder)
        real(store, folder, *args)

    monkeypatch.setattr(VolumeStore, "__init__", noted)
    monkeypatch.setenv("FAST_DISK", str(tmp_path / "fast"))
    run.execute(replace(context("staged"), device=DeviceConfig(staging="$FAST_DISK")))
    assert opened
    assert all(folder.is_relative_to(tmp_path / "fast") for folder in opened)
    straight, staged = (context(name).out / ENCODER_FILE for name in ("straight", "staged"))
    assert straight.read_bytes() == staged.read_bytes()


def test_the_last_weights_are_kept_whatever_their_loss(context, monkeypatch):
    monkeypatch.setattr(TwoStages, "selection", "last")
    run.execute(context("last"))
    assert f'"selected_step": {STEPS}' in (context("last").out / "summary.json").read_text()


def test_each_stage_has_a_schedule_of_its_own():
    optimiser = OptimiserConfig(lr=1.0, warmup_steps=2, final_lr_factor=0.25)
    factor = staged_lr_factor(optimiser, (range(0, 10), range(10, 20)))
    values = [factor(step) for step in range(20)]
    assert values[:10] == values[10:]
    assert (values[0], values[1], values[2]) == (0.0, 0.5, 1.0)
    assert 0.25 < values[9] < 0.35
    assert factor(20) == 0.25
