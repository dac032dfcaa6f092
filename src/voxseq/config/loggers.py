"""Programs that can follow trainings, and whether their packages are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from voxseq.base.errors import ConfigError

#: Logger → modules that it needs, which its extra installs.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "pytorch_lightning"),
    "wandb": ("wandb", "pytorch_lightning"),
}


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose packages are not installed.

    Raises:
        ConfigError: naming the packages, and the extra that has them.
    """
    for name in names:
        missing = [package for package in PACKAGES[name] if find_spec(package) is None]
        if missing:
            raise ConfigError(
                f"execution.loggers: {name} needs {' and '.join(missing)}, not installed here",
                f"pip install -e '.[{name}]' in your clone, or leave {name} out of the loggers",
            )
