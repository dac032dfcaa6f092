"""Studies that stand alone: their sizes are their own, neither the demo's nor a model's default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxseq.config.problems import Problem

#: Key at the top of a file that is not laid over params.yaml.
STANDALONE = "standalone"
SIZES_HINT = (
    "a study that stands alone states its sizes, which fit nobody else's images; "
    "`voxseq init` writes them"
)
_ENCODER = ("width", "depth", "heads", "mlp_width", "patch_size")
_SEQUENCES = ("volume_shape", "length", "sources")
#: Kind of sequence → keys that its size depends on.
_KINDS: Mapping[str, tuple[str, ...]] = {
    "spatial": ("crops_per_volume", "crop_shape", "window_shape", "stride"),
    "contrast": ("crops_per_subject", "crop_shape", "contrasts"),
    "semantic": ("draws_per_category", "window"),
}
_PRETRAIN = ("steps", "batch_size")


def is_standalone(layer: Mapping[str, Any]) -> bool:
    """Whether a file is a study of its own, which replaces what it would be laid over."""
    return layer.get(STANDALONE) is True


def of_standalone(word: Any, content: Mapping[str, Any]) -> Iterator[Problem]:
    """What a study of its own leaves to defaults, which are those of the demo.

    Args:
        word: value of ``standalone``.
        content: the rest of the configuration, before defaults are filled in.
    """
    if word is not True:
        yield Problem(STANDALONE, f"expected true or false (given: {word!r})")
    if "results" not in content:
        yield Problem("results", f"is not stated, expected results/{content.get('scale', 'NAME')}")
    wanted: dict[str, tuple[str, ...]] = {"encoder": _ENCODER}
    if _below(content, "pretrain").get("methods"):
        sequences = _below(content, "sequences")
        wanted |= {"pretrain": _PRETRAIN, "sequences": _SEQUENCES}
        sources = sequences.get("sources")
        named = sources if isinstance(sources, list) else []
        kinds = {str(s.get("kind")) for s in named if isinstance(s, Mapping)}
        wanted |= {f"sequences.{kind}": _KINDS[kind] for kind in sorted(kinds & set(_KINDS))}
    for section, keys in wanted.items():
        part = content
        for name in section.split("."):
            part = _below(part, name)
        for key in keys:
            if key not in part:
                yield Problem(f"{section}.{key}", "is not stated, expected a value")


def _below(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = content.get(key)
    return part if isinstance(part, Mapping) else {}
