"""Reading params.yaml and its overlays into a validated configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from voxseq.config.merging import merge
from voxseq.config.root import Config
from voxseq.errors import ConfigError
from voxseq.files import read_text


class _StrictLoader(yaml.SafeLoader):
    """YAML without what hides mistakes: duplicate keys, aliases, and numbers to base 8 or 60."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "anchors and aliases are not supported here", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key must be a plain word, not {key!r}", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: Any) -> Any:
        """An integer or a float; YAML 1.1 takes 010 for eight and 1:30 for ninety."""
        text = node.value.lstrip("+-")
        if ":" in text:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{text[:40]!r}: a number with a colon counts in sixties here; "
                "put it between quotes, or write it out",
                node.start_mark,
            )
        if len(text) > 1 and text[0] == "0" and text[1] in "0123456789_":
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{text[:40]!r}: a number with a leading zero counts in eights here; "
                "leave the zero out",
                node.start_mark,
            )
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)

    def refuse(self, node: Any) -> Any:
        """Values that no key here has."""
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.tag.split(':')[-1]} is not supported here", node.start_mark
        )


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.construct_number)
for _kind in ("binary", "set", "omap", "pairs"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader.refuse)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or has duplicate keys or aliases.
    """
    try:
        # A strict subclass of SafeLoader: no Python object is ever constructed.
        content = yaml.load(read_text(path), Loader=_StrictLoader)  # noqa: S506
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", "check the path and its encoding (UTF-8)"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid YAML: {error}", "correct the place named above"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected a mapping of keys at the top, found {type(content).__name__}",
            "start from a copy of params.yaml",
        )
    return content


def load_config(path: Path, overlays: Iterable[Mapping[str, Any]] = ()) -> Config:
    """Read, merge and validate a configuration.

    Args:
        path: the base file, usually params.yaml.
        overlays: mappings laid over it in turn, such as a scale.

    Raises:
        ConfigError: naming each key, its value and what was expected.
    """
    content = read_yaml(path)
    for overlay in overlays:
        content = merge(content, overlay)
    return validate(content, str(path))


def validate(content: Mapping[str, Any], origin: str) -> Config:
    """Validate a configuration tree, method settings included."""
    from voxseq.pretrain.validate import validate_methods

    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(
            "\n".join([f"{origin} is not a valid configuration:", *_lines(error)]),
            "correct these keys; `voxseq config show` prints every key with its value",
        ) from None
    _check_names(config, origin)
    return validate_methods(config, origin)


def _check_names(config: Config, origin: str) -> None:
    """Data sets and networks that a configuration names must exist."""
    from voxseq.data import catalogue
    from voxseq.methods import scratch

    datasets = {
        **{f"sequences.sources.{i}": s.dataset for i, s in enumerate(config.sequences.sources)},
        **{f"finetune.tasks.{name}": task.dataset for name, task in config.finetune.tasks.items()},
    }
    for key, dataset in datasets.items():
        try:
            catalogue.get(dataset)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {key}.dataset: {error.what}", error.hint) from None
    for network in config.finetune.scratch:
        if network not in scratch():
            raise ConfigError(
                f"{origin}: finetune.scratch names {network!r}, which is not trained from scratch",
                f"choose from {', '.join(scratch())}",
            )


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        key = _key(item["loc"])
        given = item["input"]
        shown = "" if isinstance(given, Mapping) else f" (given: {given!r:.80})"
        lines.append(f"  {key}{item['msg'].removeprefix('Value error, ')}{shown}")
    return lines


def _key(location: tuple[int | str, ...]) -> str:
    """Dotted key of an error, as it stands in the file; empty when it concerns several keys."""
    parts = [str(part) for part in location]
    if parts[:2] == ["finetune", "tasks"]:
        # The task's type, by which its model is chosen, is not a level of the file.
        del parts[3:4]
    return "".join([".".join(parts), ": "]) if parts else ""


def explain(error: ValidationError) -> str:
    """The lines of a validation error, one key a line."""
    return "\n".join(_lines(error))
