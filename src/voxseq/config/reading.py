"""Reading the files of a configuration: YAML without surprises, and where each key stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from voxseq.base.errors import ConfigError
from voxseq.base.files import read_text

#: Keys from the top of a file down, items of lists by their number.
KeyPath = tuple[str, ...]


class Document(dict[str, Any]):
    """What a file holds.

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


# It is written as any other mapping.
yaml.SafeDumper.add_representer(Document, yaml.SafeDumper.represent_dict)


class _StrictLoader(yaml.SafeLoader):
    """YAML without what hides mistakes: duplicate keys, aliases, and numbers to base 8 or 60."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise _refusal("anchors and aliases are not supported here", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise _refusal(f"a key must be a plain word, not {key!r}", key_node.start_mark)
            if key in seen:
                raise _refusal(f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_text(self, node: Any) -> str:
        """A text, in which two escapes may stand for one character beyond U+FFFF, as in JSON."""
        text: str = self.construct_scalar(node)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")

    def construct_number(self, node: Any) -> Any:
        """An integer or a float; YAML 1.1 takes 010 for eight and 1:30 for ninety."""
        text = node.value.lstrip("+-")
        if ":" in text:
            raise _refusal(
                f"{text[:40]!r}: a number with a colon counts in sixties here; "
                "put it between quotes, or write it out",
                node.start_mark,
            )
        if len(text) > 1 and text[0] == "0" and text[1] in "0123456789_":
            raise _refusal(
                f"{text[:40]!r}: a number with a leading zero counts in eights here; "
                "leave the zero out",
                node.start_mark,
            )
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)

    def refuse(self, node: Any) -> Any:
        """Values that no key here has."""
        raise _refusal(f"{node.tag.split(':')[-1]} is not supported here", node.start_mark)


def _refusal(text: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)


_StrictLoader.add_constructor("tag:yaml.org,2002:str", _StrictLoader.construct_text)
for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_number)
for _kind in ("binary", "set", "omap", "pairs"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.refuse)


def read_yaml(path: Path) -> Document:
    """Read a file whose top level is a mapping: JSON where its name ends so, else YAML.

    Raises:
        ConfigError: the file is missing, is neither, or has duplicate keys or aliases.
    """
    text = _text(path)
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        content, lines = _json(text) if kind == "JSON" else parse_yaml(text, str(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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
        return read_text(path)
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
    """What to do about a file that is not there; the workspace may lie further up."""
    if path.parent == Path():
        above = next((p for p in Path.cwd().parents if (p / path.name).is_file()), None)
        if above is not None:
            return f"the workspace is {above}: cd there"
        if path.name == "params.yaml":
            return "go to the folder of the study, which has this file, or name one with --params"
    return "check its name; a relative one starts at the present folder"


def parse_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """Content of a YAML text, and the line of each key; ``name`` stands in errors."""
    # A strict subclass of SafeLoader: no Python object is ever constructed.
    loader = _StrictLoader(text)
    loader.name = name
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(_lines(node, ()))
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


def _lines(node: Any, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Path and line of each key and item below a node."""
    if isinstance(node, yaml.MappingNode):
        below = [(key.value, key.start_mark, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        below = [(str(i), value.start_mark, value) for i, value in enumerate(node.value)]
    else:
        return
    for key, mark, value in below:
        yield (*path, key), mark.line + 1
        yield from _lines(value, (*path, key))


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
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: unacceptable character #x{error.character:04x}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)
