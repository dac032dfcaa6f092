"""Arguments of a stage function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from voxseq.config.execution import DeviceConfig, TrainingResources

#: Last part of the id of a run that each seed has for itself.
_SEED = re.compile(r"/s\d+")
#: A model of :mod:`voxseq.config.runs`, or the one of :mod:`voxseq.config.report_run`.
RunConfig_co = TypeVar("RunConfig_co", covariant=True)


@dataclass(frozen=True)
class RunContext(Generic[RunConfig_co]):
    """Arguments of a stage function; see :class:`voxseq.plan.Run` for the shared fields.

    Attributes:
        out: empty folder for the results.
        state: folder for log, progress, cost and checkpoints; it survives failures.
        inputs: run id → folder of each run this one depends on.
        data_root: the user's folder of real data; ``None`` where phantoms are generated.
        workers: processes that work beside this one; they change no result.
        fetch_bytes: largest data set that may be fetched without being asked for by name.
        training: how a pre-training divides its batches; it changes last digits only.
        device: where it computes, and how; it changes last digits only.
        records: run id → folder of the record of each input, which may not exist.
        fingerprint: of the run.
        logs: folder of the study's logs, named after it, for loggers of other programs.
    """

    run_id: str
    config: RunConfig_co
    out: Path
    state: Path
    inputs: Mapping[str, Path]
    data_root: Path | None
    workers: int = 0
    fetch_bytes: int = 0
    training: TrainingResources = field(default_factory=TrainingResources)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    records: Mapping[str, Path] = field(default_factory=dict)
    fingerprint: str = ""
    logs: Path = Path("logs")

    def input(self, name: str) -> Path:
        """Folder of an input of this run's seed, or of the one that all seeds share.

        Args:
            name: id of the run without its seed, such as "preprocess/task/la".

        Raises:
            KeyError: there is none of this name.
        """
        for run, folder in self.inputs.items():
            if run == name or (run.startswith(name) and _SEED.fullmatch(run.removeprefix(name))):
                return folder
        raise KeyError(name)

    def inputs_below(self, prefix: str) -> dict[str, Path]:
        """First word after ``prefix``, such as "preprocess/source/", in an id → folder."""
        return {
            run.removeprefix(prefix).split("/")[0]: folder
            for run, folder in self.inputs.items()
            if run.startswith(prefix)
        }
