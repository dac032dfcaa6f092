"""Loggers of other programs that follow trainings: TensorBoard, MLflow and Weights & Biases.

They get what metrics.csv gets, through Lightning Fabric. They write below the logs of the scale and
send nothing to any server, unless MLFLOW_TRACKING_URI or WANDB_MODE=online asks for it. No result
depends on them: one that fails is left out from then on, with a warning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from voxseq.base.locks import exclusive
from voxseq.config.loggers import require_loggers
from voxseq.training.distributed import processes

_LOG = logging.getLogger("voxseq.training")


@dataclass(frozen=True)
class Followed:
    """A training that loggers may follow.

    Attributes:
        run: its id.
        fingerprint: of the run: a resumed training goes on in the same place.
        folder: in which loggers keep what they write, named after the study.
    """

    run: str
    fingerprint: str
    folder: Path


@contextmanager
def open_loggers(
    names: Sequence[str], training: Followed | None, settings: Mapping[str, Any]
) -> Iterator[list[Logger]]:
    """The loggers of a training, which are closed when it ends.

    Args:
        names: as in ``execution.loggers``.
        training: None for one that nobody follows.
        settings: of the training.

    Raises:
        ConfigError: a package is missing.
    """
    require_loggers(names)
    opened: list[Logger] = []
    if training is not None and processes().is_first:
        for name in names:
            with _failures_left_out(name):
                logger = _OPENED[name](training)
                logger.log_hyperparams(dict(settings))
                opened.append(logger)
    status = "failed"
    try:
        yield opened
        status = "success"
    finally:
        for logger in opened:
            with _failures_left_out(type(logger).__name__):
                _close(logger, status)


def log(loggers: list[Logger], values: Mapping[str, float], step: int) -> None:
    """Hand values to loggers; those that fail are taken off the list."""
    for logger in list(loggers):
        with _failures_left_out(type(logger).__name__) as outcome:
            logger.log_metrics(dict(values), step)
            outcome.append(logger)
        if not outcome:
            loggers.remove(logger)


@contextmanager
def _failures_left_out(name: str) -> Iterator[list[Logger]]:
    """Turn an error in another program's logger into a warning: trainings go on without it."""
    try:
        yield []
    except Exception as error:
        _LOG.warning("the logger %s is left out: %s: %s", name, type(error).__name__, error)


def _tensorboard(training: Followed) -> Logger:
    from lightning_fabric.loggers import TensorBoardLogger

    return TensorBoardLogger(training.folder, name="tensorboard", version=training.run)


def _mlflow(training: Followed) -> Any:
    from pytorch_lightning.loggers import MLFlowLogger

    folder = training.folder.absolute()
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    # The first call makes the database, which two processes must not do at once.
    with exclusive(folder / ".mlflow.lock", "opening the database of MLflow"):
        logger = MLFlowLogger(
            experiment_name=f"voxseq {folder.name}",
            run_name=training.run,
            tracking_uri=address,
            tags={"fingerprint": training.fingerprint},
            artifact_location=str(folder / "mlflow"),
        )
        # Its database is made when it is first used.
        logger.experiment  # noqa: B018
    return logger


def _wandb(training: Followed) -> Any:
    from pytorch_lightning.loggers import WandbLogger

    training.folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        project=f"voxseq-{training.folder.name}",
        name=training.run,
        id=training.fingerprint,
        resume="allow",
        save_dir=training.folder,
        offline=os.environ.get("WANDB_MODE", "offline") != "online",
    )


_OPENED: Mapping[str, Callable[[Followed], Any]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _close(logger: Logger, status: str) -> None:
    logger.finalize(status)
    # Weights & Biases would take the next training of this process for the same one.
    finish = getattr(getattr(logger, "experiment", None), "finish", None)
    if finish is not None:
        finish()
