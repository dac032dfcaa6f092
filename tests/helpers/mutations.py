"""Changes of a configuration that a slip of the hand, or malice, could make."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.helpers import ROOT
from voxseq.config import load_config, read_yaml

Place = tuple[Any, ...]
Tree = dict[str, Any]
#: Left out of the file.
MISSING = object()
#: Laid over the smoke scale: every method, network and kind of run, as small as can be.
SMALLEST: Tree = {
    "scale": "mutated",
    "results": "results/mutated",
    "seeds": 1,
    "data": {
        "phantoms": {
            "volume_shape": [16, 16, 16],
            "segmentation_cases": 6,
            "classification_cases": [8, 4, 4],
        }
    },
    "sequences": {"spatial": {"crops_per_volume": 4}, "validation_every": 4},
    "encoder": {"width": 12, "depth": 1, "heads": 2, "mlp_width": 24},
    "pretrain": {"steps": 4, "validation_sequences": 4},
    "finetune": {
        "tasks!": {
            "task06_lung": {
                "type": "segmentation",
                "title": "Task06 Lung",
                "dataset": "task06_lung",
                "labels": ["cancer"],
                "data": {"window": [-1000, 1000]},
            },
            "nodule": {
                "type": "classification",
                "title": "LIDC nodule",
                "dataset": "nodule",
                "labels": ["benign", "malignant"],
                "data": {"scale": 255, "normalise": "none"},
            },
        },
        "defaults": {
            "segmentation": {"steps": 2, "volumes_per_batch": 2},
            "classification": {"steps": 2},
        },
    },
    "ablation": {"tasks": ["nodule"]},
    "label_ratio": {"tasks": ["nodule"], "methods": ["ours"]},
    "beyond!": {
        "token_order": ["nodule"],
        "recipes": ["nodule"],
        "frozen": ["task06_lung", "nodule"],
        "trivial": ["task06_lung", "nodule"],
    },
    "report": {"dpi": 40},
}


@cache
def smallest() -> Tree:
    """The smallest study that has everything, every key given."""
    smoke = read_yaml(ROOT / "workflow/scales/smoke.yaml")
    return load_config(ROOT / "params.yaml", [smoke, SMALLEST]).model_dump(mode="json")


def leaves(tree: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Places of all values, of all lists and mappings, and of all that stands in them."""
    if path:
        yield path, tree
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from leaves(value, (*path, key))


def changed(tree: Tree, path: Place, value: Any) -> Tree:
    """A copy of ``tree`` with another value in one place."""
    copied = copy.deepcopy(tree)
    place: Any = copied
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return copied


_LARGE = (2**31 - 1, 2**31, 2**63, 10**30)
_WORDS = (
    *("", " ", "x", "none", "null", "raster", "causal", "spatial", "contrast", "semantic"),
    *("constant", "poly", "multistep", "zscore", "native", "uniform", "la", "msd", "nodule"),
    *("accuracy_plus_auc", "bf16-mixed", "instance", "large", "small", "zstd", "lz4"),
    *("a\ud83e", "a\x00b", "../x", "x" * 100_000, "=HYPERLINK(1)", "🫀", "$x$", "-1", "1e400"),
)
_OTHER_TYPES = (
    *(None, True, 0, 1, 0.5, "x", [], {}, [1], {"x": 1}, float("nan"), float("inf")),
    *([["x"], []], {"": 1}, date(2024, 1, 1), b"x", 10**300),
)


def values(old: Any) -> st.SearchStrategy[Any]:
    """Boundary values, other types, doubled and swapped lists, a missing key."""
    others: list[Any] = [MISSING, *_OTHER_TYPES]
    if isinstance(old, bool):
        others += [not old] * 5
    elif isinstance(old, int):
        near = (old - 1, old + 1, old * 2, old * 3, old // 2)
        others += [-1, 0, 1, 2, 3, 5, 7, 64, 1000, *near, *_LARGE, old + 0.5]
    elif isinstance(old, float):
        others += [-1.0, 0.0, 5e-324, 1e-45, 1e-9, 1e-3, 0.5, 0.999999999, 1.0, 2.0, 1e3, 1e30]
        others += [3e38, 1e39, 1e308]
    elif isinstance(old, list):
        others += [old[::-1], old[:-1], old[1:], [*old, *old[:1]], old * 2]
        others += [[number] * len(old) for number in (0, 1, 2, 3, 4, 8, 32, 4096, 2**31 - 1)]
    elif isinstance(old, dict):
        others += [{**old, "x": 1}, dict(list(old.items())[1:])]
    elif isinstance(old, str):
        others += [*_WORDS, old.upper(), f"{old}\n"]
    else:
        others += [2, 3, 1e-9, [2, 2, 2], [16, 16, 16], [1, 1], [0, 1], "raster", "causal"]
    return st.sampled_from(others)


def mutations() -> st.SearchStrategy[tuple[Place, Any]]:
    """A place of the smallest study, and what is put there."""
    places = list(leaves(smallest()))
    return st.sampled_from(places).flatmap(
        lambda place: st.tuples(st.just(place[0]), values(place[1]))
    )
