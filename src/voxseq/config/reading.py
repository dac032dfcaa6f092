"""Reading the files of a configuration: YAML without surprises, and where each key stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_text

#: Keys from the top of a file down, items of lists by their number.
KeyPath = tuple[str, ...]


class Document(dict[str, Any]):
    """Contents of a file.

    Attributes:
        name: of the file, as it was given.
        lines: line of each key, counted from 1; none for JSON, which no one edits.
    """

    def __init__(
        self, content: Mapping[str, Any], name: str, lines: Mapping[KeyPath, int] | None = None
    ) -> None:
        super().__init__(content)
        self.name = name
        self.lines = dict(lines or {})

    def place(self, path: KeyPath) -> str | None:
        """File and line of a key of the merged configuration.

        Returns:
            ``None`` where the file says nothing of it, so that one below it may; empty where the
            file has it without a line, or replaces what lies above it.
        """
        value: Any = self
        written: KeyPath = ()
        is_replaced = False
        for word in path:
            keys = {str(key).removesuffix("!"): key for key in _keys(value)}
            if word not in keys:
                return "" if is_replaced else None
            value = value[keys[word]]
            written = (*written, str(keys[word]))
            is_replaced |= written[-1].endswith("!") or not isinstance(value, Mapping)
        line = self.lines.get(written)
        return f"{self.name}, line {line}" if line else ""


def _keys(value: Any) -> Iterable[Any]:
    if isinstance(value, list):
        return range(len(value))
    return value if isinstance(value, Mapping) else ()


# It is written as any other mapping.
yaml.SafeDumper.add_representer(Document, yaml.SafeDumper.represent_dict)
#: Kinds of value that a configuration has.
_KINDS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "seq", "map"})
_KEYS = frozenset({"str", "int", "float", "bool"})
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]")


def read_yaml(path: Path) -> Document:
    """Read a file whose top level is a mapping: JSON where its name ends so, else YAML.

    Raises:
        ConfigError: the file is missing, is neither, or has duplicate keys or aliases.
    """
    text = _text(path)
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        content, lines = _json(text) if kind == "JSON" else parse_yaml(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid {kind}: {_reason(error, text)}", "correct the place named above"
        ) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected a mapping of keys at the top, found {type(content).__name__}",
            "start from a copy of params.yaml",
        )
    return Document(content, str(path), lines)


def _text(path: Path) -> str:
    try:
        return read_text(path, only_utf8=True)
    except FileNotFoundError:
        reason, hint = "there is no such file", _where_else(path)
    except UnicodeDecodeError as error:
        reason, hint = str(error), "save it in UTF-8"
    except ValueError as error:
        reason, hint = str(error), "name a file of a configuration"
    except OSError as error:
        reason, hint = error.strerror or str(error), "check the path and your rights to it"
    raise ConfigError(f"{path} cannot be read: {reason}", hint)


def _where_else(path: Path) -> str:
    """Remedy for a missing file; the workspace may be a folder further up."""
    if path.parent == Path():
        above = next((p for p in Path.cwd().parents if (p / path.name).is_file()), None)
        if above is not None:
            return f"the workspace is {above}: cd there"
        if path.name == "params.yaml":
            return "go to the folder of the study, which has this file, or name one with --params"
    return "check its name; a relative one starts at the present folder"


def parse_yaml(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Content of a YAML 1.2 text, as DVC reads it, and the line of each key.

    Refused is what hides mistakes: duplicate keys, aliases, merged mappings, tags, numbers that
    begin with a zero, which YAML 1.1 takes for octal. No Python object is ever constructed.
    """
    reader = YAML(typ="safe", pure=True)
    node = reader.compose(text)
    if node is None:
        return None, {}
    lines = dict(_lines(node, ()))
    return reader.constructor.construct_document(node), lines


def _lines(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Path and line of each key and item below a node, after a look at the node itself."""
    kind = str(node.tag).rpartition(":")[2]
    if node.anchor is not None:
        raise _refusal("anchors and aliases are not supported here", node)
    if kind not in _KINDS:
        raise _refusal(f"{kind} is not supported here", node)
    if isinstance(node, MappingNode):
        seen = set()
        for key, value in node.value:
            if str(key.tag).rpartition(":")[2] not in _KEYS:
                raise _refusal("a key must be a plain word", key)
            if key.value in seen:
                raise _refusal(f"duplicate key {key.value!r}", key)
            seen.add(key.value)
            below = (*path, key.value)
            yield below, key.start_mark.line + 1
            yield from _lines(key, below)
            yield from _lines(value, below)
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value):
            below = (*path, str(number))
            yield below, value.start_mark.line + 1
            yield from _lines(value, below)
    elif kind in ("int", "float") and _LEADING_ZERO.match(node.value):
        raise _refusal(f"{node.value[:40]!r}: leave the leading zero out", node)
    elif kind == "str":
        # Two escapes may stand for one character beyond U+FFFF, as in JSON.
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _refusal(problem: str, node: Any) -> YAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _json(text: str) -> tuple[Any, dict[KeyPath, int]]:
    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"duplicate key {next(n for n in names if names.count(n) > 1)!r}")
        return made

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    return json.loads(text, object_pairs_hook=mapping, parse_constant=refuse), {}


def _reason(error: Exception, text: str) -> str:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: unacceptable character #x{error.character:04x}"
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
