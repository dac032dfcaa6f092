"""Rolling checkpoints: atomic, loaded without unpickling, tied to one configuration."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from voxseq.base.errors import IntegrityError, VoxseqError
from voxseq.base.failures import is_out_of_memory, read_named
from voxseq.base.files import atomic_path

FILE = "checkpoint.pt"
#: Seconds of training after which its end gets a checkpoint of its own.
LATE = 30.0


@dataclass
class SaveTimes:
    """When checkpoints of a training are due: by steps, and by minutes since the last one.

    Attributes:
        steps: of the whole training.
        every: steps between two checkpoints.
        minutes: after which one is written between these; None: never.
        saved_at: when the last one was written.
    """

    steps: int
    every: int
    minutes: float | None = None
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self, step: int) -> bool:
        """Whether the state after ``step`` steps is to be saved."""
        seconds = time.monotonic() - self.saved_at
        if step == self.steps:
            # Work after a long training, such as scoring, may be stopped as well.
            return seconds > LATE
        return step % self.every == 0 or (self.minutes is not None and seconds > 60 * self.minutes)

    def saved(self) -> None:
        """A checkpoint has been written."""
        self.saved_at = time.monotonic()


def save(folder: Path, content: Mapping[str, Any], config: Mapping[str, Any]) -> Path:
    """Write the checkpoint of a run, replacing the one before it only when complete.

    Args:
        folder: of the run's state.
        content: tensors, numbers and texts, in mappings and lists.
        config: the run's configuration, kept with its hash.

    Raises:
        ResourceError: there is no room; the checkpoint before is still there.
    """
    path = folder / FILE
    flat = flatten(config)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        file = _Remembering(handle)
        try:
            everything = {**content, "config": flat, "config_hash": _hash(flat)}
            torch.save(everything, cast(IO[bytes], file))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            # Torch reports that the file is short, not why.
            raise file.error or RuntimeError(f"{path} was not written") from None
    return path


class _Remembering:
    """A file that remembers why reading or writing it failed, which torch does not tell."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._handle, name)

        def call(*args: Any) -> Any:
            try:
                return method(*args)
            except OSError as error:
                self.error = self.error or error
                raise

        return call


def load(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of a run, or return ``None`` where there is none.

    Raises:
        IntegrityError: the file is damaged, or belongs to another configuration; the differing
            keys are named.
        ResourceError: memory or disk failed while it was read; it may be sound.
    """
    path = folder / FILE
    try:
        with read_named(path):
            if not path.exists():
                return None
            content = _read(path)
    except VoxseqError:
        raise
    except Exception as error:
        raise IntegrityError(
            f"{path} cannot be read: {_reason(error)}",
            f"delete {path} to start this run from step 0",
        ) from error
    here, there = flatten(config), content["config"]
    differing = sorted(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    if differing:
        shown = "; ".join(f"{k}: {there.get(k)} there, {here.get(k)} now" for k in differing[:8])
        raise IntegrityError(
            f"{path} belongs to another configuration ({shown})",
            f"restore that configuration, or delete {path} to start anew",
        )
    return content


def _reason(error: Exception) -> str:
    """Why torch refused the file, without its advice to read it all the same."""
    said = str(error)
    if type(error).__name__ == "UnpicklingError" or "weights_only" in said:
        return "it holds more than tensors, numbers and texts, and reading that could run code"
    return said.split("\n", 1)[0]


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as handle:
        file = _Remembering(handle)
        try:
            _require_whole(file)
            content: dict[str, Any] = torch.load(
                cast(IO[bytes], file), map_location="cpu", weights_only=True
            )
        except Exception:
            if file.error is not None:
                raise file.error from None
            raise
    if content["config_hash"] != _hash(content["config"]):
        raise ValueError("the configuration in it does not have its hash")
    return content


def _require_whole(file: _Remembering) -> None:
    """Compare every record with its checksum; torch writes checksums and does not read them."""
    with zipfile.ZipFile(cast(IO[bytes], file)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it does not have its checksum")
    file.seek(0)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and printed values of a configuration tree."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = repr(list(value) if isinstance(value, tuple) else value)
    return flat


def _hash(flat: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()
