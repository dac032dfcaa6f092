"""A study's file: few keys, each with the reason for its value."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

_WIDTH = 100
#: Mappings of so few plain values stand on one line.
_SHORT = 5


class _Representer(RoundTripRepresenter):
    """Writes null as a word, not as nothing."""


_Representer.add_representer(
    type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null")
)


def text_of(tree: Mapping[str, Any], head: Sequence[str], comments: Mapping[str, str]) -> str:
    """The text of a configuration.

    Args:
        tree: its keys.
        head: lines of a comment at its top.
        comments: dotted key → what stands behind it, or above it where it has keys of its own.
    """
    style = YAML()
    style.Representer = _Representer
    style.width = _WIDTH
    style.indent(mapping=2, sequence=4, offset=2)
    content = _commented(tree, (), comments)
    content.yaml_set_start_comment("\n".join(head))
    written = io.StringIO()
    style.dump(content, written)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _commented(
    tree: Mapping[str, Any], path: tuple[str, ...], comments: Mapping[str, str]
) -> CommentedMap:
    made = CommentedMap()
    for key, value in tree.items():
        below = (*path, str(key))
        made[key] = _value(value, below, comments)
        said = comments.get(".".join(below))
        if said is None:
            continue
        if isinstance(value, Mapping):
            made.yaml_set_comment_before_after_key(key, before=said, indent=2 * len(path))
        else:
            # The package's own method would put it where the comment above it begins.
            token = CommentToken(f" # {said}", CommentMark(0))
            made.ca.items[key] = [None, None, token, None]
    return made


def _value(value: Any, path: tuple[str, ...], comments: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        made = _commented(value, path, comments)
        # Nothing can follow a comment on its line.
        if _is_short(value) and not any(_is_below(key, path) for key in comments):
            made.fa.set_flow_style()
        return made
    if isinstance(value, list | tuple):
        listed = CommentedSeq([_value(one, path, comments) for one in value])
        if not any(isinstance(one, Mapping) for one in value):
            listed.fa.set_flow_style()
        return listed
    return value


def _is_short(value: Mapping[str, Any]) -> bool:
    plain = not any(isinstance(one, Mapping) for one in value.values())
    return plain and len(value) <= _SHORT


def _is_below(key: str, path: tuple[str, ...]) -> bool:
    return key.startswith(f"{'.'.join(path)}.")
