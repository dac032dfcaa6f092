"""Loggers of other programs: what they get, and that trainings do not depend on them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.toy import STEPS, Killed, Outcome, Toy, train
from voxseq.base.errors import ConfigError
from voxseq.config.execution import DeviceConfig
from voxseq.config.loggers import PACKAGES, require_loggers
from voxseq.training.loggers import Followed

NAMES = tuple(PACKAGES)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return train(tmp_path_factory.mktemp("straight"))


class StandIn:
    """Stands for a logger of pytorch_lightning."""

    made: list[StandIn]

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.values: list[tuple[int, dict[str, float]]] = []
        self.settings: dict[str, Any] = {}
        self.closed: list[str] = []
        self.fails_at: int | None = None
        self.experiment = types.SimpleNamespace(finish=lambda: self.closed.append("finished"))
        self.made.append(self)

    def log_hyperparams(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        if self.fails_at is not None and step >= self.fails_at:
            raise OSError("the server is gone")
        self.values.append((step, values))

    def finalize(self, status: str) -> None:
        self.closed.append(status)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """Stand-ins for the packages; the loggers that were made."""
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    kind = type("Logger", (StandIn,), {"made": []})
    loggers = types.ModuleType("pytorch_lightning.loggers")
    loggers.MLFlowLogger = loggers.WandbLogger = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.loggers", loggers)
    monkeypatch.setattr("voxseq.config.loggers.find_spec", lambda name: name)
    return kind.made


def follow(folder: Path, *names: str, toy: Toy | None = None) -> Outcome:
    followed = Followed("pretrain/ours", "0123", folder / "logs/demo")
    return train(folder, toy, device=DeviceConfig(loggers=names), followed=followed)


def test_tensorboard_gets_what_metrics_csv_gets(straight: Outcome, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert follow(tmp_path, "tensorboard").same_bits(straight)
    events = EventAccumulator(str(tmp_path / "logs/demo/tensorboard/pretrain/ours"))
    events.Reload()
    rows = [line.split(",") for line in straight.metrics.decode().splitlines()[1:]]
    expected = [(int(r[0]), float(r[3])) for r in rows if r[1:3] == ["val", "loss"]]
    found = [(scalar.step, scalar.value) for scalar in events.Scalars("val/loss")]
    assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]
    assert {"train/loss", "train/lr", "val/score"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_others_get_values_settings_and_an_end_and_send_nothing(
    straight: Outcome, tmp_path: Path, made: list[StandIn], name: str
) -> None:
    assert follow(tmp_path, name).same_bits(straight)
    (logger,) = made
    assert logger.closed == ["success", "finished"]
    assert logger.settings["seed"] == 5
    steps = [step for step, values in logger.values if "train/loss" in values]
    assert steps == [1, 3, 5, 7, 9, STEPS]
    folder = tmp_path / "logs/demo"
    if name == "mlflow":
        assert logger.given["tracking_uri"] == f"sqlite:///{folder}/mlflow.db"
        assert logger.given["experiment_name"] == "voxseq demo"
    else:
        assert logger.given["offline"]
        assert (logger.given["id"], logger.given["save_dir"]) == ("0123", folder)


def test_servers_are_used_where_the_environment_names_them(
    tmp_path: Path, made: list[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("WANDB_MODE", "online")
    follow(tmp_path, "mlflow", "wandb")
    assert made[0].given["tracking_uri"] == "http://127.0.0.1:5000"
    assert not made[1].given["offline"]


def test_a_logger_that_fails_is_left_out(
    straight: Outcome,
    tmp_path: Path,
    made: list[StandIn],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real = StandIn.__init__

    def failing(self: StandIn, **given: Any) -> None:
        real(self, **given)
        self.fails_at = 5 if "offline" in given else None

    monkeypatch.setattr(StandIn, "__init__", failing)
    assert follow(tmp_path, "wandb", "mlflow").same_bits(straight)
    bad, good = made
    assert max(step for step, _ in bad.values) == 3
    assert max(step for step, _ in good.values) == STEPS
    assert caplog.text.count("the server is gone") == 1


def test_a_failed_training_is_closed_as_failed(tmp_path: Path, made: list[StandIn]) -> None:
    toy = Toy()
    toy.kill_at = 3
    with pytest.raises(Killed):
        follow(tmp_path, "wandb", toy=toy)
    assert made[0].closed == ["failed", "finished"]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_named_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("voxseq.config.loggers.find_spec", lambda _: None)
    toy = Toy()
    with pytest.raises(ConfigError, match=rf"pip install -e '\.\[{name}\]'"):
        follow(tmp_path, name, toy=toy)
    assert toy.steps_done == []
    require_loggers(())
