"""voxseq: autoregressive sequence modelling for 3D medical images, as one tracked experiment.

>>> import voxseq
>>> model = voxseq.load_model("artifacts/demo/finetune/task09_spleen/ours/s0")  # doctest: +SKIP
>>> model.predict("scan.nii.gz").save("mask.nii.gz")                            # doctest: +SKIP
>>> encoder = voxseq.load_encoder("artifacts/demo/pretrain/ours/s0")            # doctest: +SKIP
>>> voxseq.features("artifacts/demo/pretrain/ours/s0", "scan.nii.gz").pooled    # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxseq.predict.features import FeatureExtractor, features, load_encoder
    from voxseq.predict.model import Options, TrainedModel, load_model

__version__ = "0.2.0"
__all__ = [
    "FeatureExtractor",
    "Options",
    "TrainedModel",
    "__version__",
    "features",
    "load_encoder",
    "load_model",
]
#: Public name → its module, which is imported when the name is first used: PyTorch takes seconds.
_PLACES = {
    **dict.fromkeys(("FeatureExtractor", "features", "load_encoder"), "predict.features"),
    **dict.fromkeys(("Options", "TrainedModel", "load_model"), "predict.model"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
