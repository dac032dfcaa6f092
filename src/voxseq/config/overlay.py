"""Laying one configuration over another, as trees and in the text of a file."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from voxseq.config.reading import parse_yaml, read_yaml

#: Columns after which a list or mapping on one line is continued on the next.
_WIDTH = 100


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``overlay`` over ``base``: mappings are merged key by key, all else is replaced.

    A key that ends in ``!`` replaces the mapping below it instead of merging into it.
    """
    merged = dict(base)
    for key, value in overlay.items():
        if isinstance(key, str) and key.endswith("!"):
            merged[key[:-1]] = merge({}, value) if isinstance(value, Mapping) else value
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


class _Representer(RoundTripRepresenter):
    """Writes null as a word, not as nothing."""


_Representer.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def laid_over(path: Path, overlay: Path) -> str:
    """Text of ``path``, comments included, after ``overlay`` is laid over it.

    Raises:
        ConfigError: one of them cannot be read.
    """
    content = merge(read_yaml(path), read_yaml(overlay))
    try:
        text = _with_comments(path, overlay)
        if parse_yaml(text)[0] == content:
            return text
    except (YAMLError, ValueError, AttributeError, TypeError):
        pass
    # What a file says comes before how it says it.
    plain: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return plain


def _with_comments(path: Path, overlay: Path) -> str:
    style = YAML()
    style.Representer = _Representer
    style.width = _WIDTH
    style.preserve_quotes = True
    style.indent(mapping=2, sequence=4, offset=2)
    base = style.load(path.read_text(encoding="utf-8"))
    above = style.load(overlay.read_text(encoding="utf-8"))
    _lay(base, above or {})
    written = io.StringIO()
    style.dump(base, written)
    # Lines that were broken end in a blank.
    return re.sub(r"[ \t]+$", "", written.getvalue(), flags=re.MULTILINE)


def _lay(base: Any, overlay: Mapping[Any, Any], *, is_top: bool = True) -> None:
    """As :func:`merge`, in place, so that comments keep their keys."""
    for key, value in overlay.items():
        name = key.removesuffix("!") if isinstance(key, str) else key
        is_replaced = name != key or not isinstance(value, Mapping)
        if not is_replaced and isinstance(base.get(name), Mapping):
            _lay(base[name], value, is_top=False)
            continue
        _drop_marks(value)
        if _has_comment(value):
            # Nothing can follow a comment on its line.
            base.fa.set_block_style()
        if name in base or is_top or not base:
            base[name] = value
        else:
            # What stands behind the last key may belong to the next section.
            base.insert(len(base) - 1, name, value)


def _drop_marks(value: Any) -> None:
    """Without a value below, a key that ends in "!" stands for the key without it."""
    if isinstance(value, Mapping):
        for key in list(value):
            _drop_marks(value[key])
            if isinstance(key, str) and key.endswith("!"):
                value[key[:-1]] = value.pop(key)  # type: ignore[index,attr-defined]


def _has_comment(value: Any) -> bool:
    inner = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    comments = getattr(value, "ca", None)
    has_own = comments is not None and bool(comments.comment or comments.items)
    return has_own or any(_has_comment(part) for part in inner)
