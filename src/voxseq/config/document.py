"""The reference of all configuration keys, generated from the configuration models.

``voxseq config docs --write`` puts it into docs/configuration.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from voxseq.config.base import SLIPS
from voxseq.config.descriptions import DESCRIPTIONS
from voxseq.config.root import Config

Schema = Mapping[str, Any]

_HEADER = """\
# Configuration

<!-- Generated from the configuration models: `voxseq config docs --write`. Do not edit. -->

One YAML file, `params.yaml`, holds the whole configuration. `voxseq config show` prints every key
with its present value; `voxseq config check` says whether a file is valid. An unknown key, a value
that cannot be, or parts that do not agree are refused before any work starts; the message names the
key, its value, what was expected, the file and the line. Anchors, aliases and duplicate keys are
refused too. Limits that are far from all honest values are not listed below.

- **Defaults** below are those of the models. `params.yaml` sets other values for the demo.
- **Overlays** are files that are laid over `params.yaml`, such as `workflow/scales/open.yaml`.
  Mappings are merged key by key, everything else is replaced. A key that ends in `!` replaces the
  whole value of that name: `tasks!:` drops the tasks of the file below. Several are laid over each
  other in turn. `voxseq config use FILE` writes one into `params.yaml`, whose comments stay.
- **`finetune.defaults`** may hold `segmentation` and `classification`. Every task is laid over the
  one of its own `type`; so what tasks share is written once. It does not exist after validation.
- **Shapes and spacings** are in the order (x, y, z).
- "required" in the column *default* means that there is none.
"""
_ALTERNATIVES = re.compile(r"\^\(([\w.|-]+)\)\$")
_NAME_LENGTH = 64
#: Bounds, in the words of JSON schema and in those that pydantic leaves beside a validator.
_SIGNS: Mapping[str, str] = {
    "exclusiveMinimum": ">",
    "gt": ">",
    "minimum": "≥",
    "ge": "≥",
    "exclusiveMaximum": "<",
    "lt": "<",
    "maximum": "≤",
    "le": "≤",
}


@dataclass(frozen=True)
class _Section:
    """One table: a model, and the keys under which it occurs."""

    model: str
    schema: Schema
    paths: list[str]

    @property
    def title(self) -> str:
        """Heading; the top level has no key of its own."""
        return self.paths[0] or "top level"


def document() -> str:
    """Describe every key of the configuration, method settings included, as Markdown."""
    sections = _sections()
    titles = {section.model: section.title for section in sections}
    parts = [_HEADER, *(_section(section, titles) for section in sections)]
    return "\n".join(parts)


def keys() -> list[str]:
    """``Model.field`` of every key that has a row in :func:`document`."""
    return [f"{s.model}.{key}" for s in _sections() for key in s.schema.get("properties", {})]


def _sections() -> list[_Section]:
    from voxseq.config.registry import pretrained

    sections: dict[str, _Section] = {}
    _collect(Config, "", sections)
    for name, method in pretrained().items():
        if method.settings is not None:
            _collect(method.settings, f"pretrain.methods.{name}", sections)
    return list(sections.values())


def _inherited(section: _Section, key: str) -> str:
    """Description of a key that the settings of all methods have."""
    from voxseq.config.methods.base import MethodSettings

    field = MethodSettings.model_fields.get(key)
    is_method = section.paths[0].startswith("pretrain.methods.")
    return (field.description or "") if is_method and field is not None else ""


def _collect(model: type[BaseModel], path: str, sections: dict[str, _Section]) -> None:
    """Add the sections of a model and of all models below it, depth first."""
    root = model.model_json_schema()
    models = {**root.get("$defs", {}), model.__name__: root}

    def visit(name: str, place: str) -> None:
        if name in sections:
            if place not in sections[name].paths:
                sections[name].paths.append(place)
            return
        schema = models[name]
        sections[name] = _Section(name, schema, [place])
        above = place.split(" (", maxsplit=1)[0]
        for key, value in schema.get("properties", {}).items():
            for reference, below in _references(value, f"{above}.{key}".lstrip(".")):
                visit(reference, below)

    visit(model.__name__, path)


def _references(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Names of the models that a value may be, with the place where they stand."""
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[1], path
    mapping = schema.get("discriminator", {}).get("mapping", {})
    for kind, reference in mapping.items():
        yield reference.rsplit("/", 1)[1], f"{path} ({kind})"
    if isinstance(schema.get("items"), Mapping):
        yield from _references(schema["items"], f"{path}[]")
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        yield from _references(values, f"{path}.NAME")
    for value in schema.get("patternProperties", {}).values():
        yield from _references(value, f"{path}.NAME")
    for choice in schema.get("anyOf", ()):
        yield from _references(choice, path)


def _section(section: _Section, titles: Mapping[str, str]) -> str:
    lines = [f"## {section.title}", ""]
    if section.schema.get("description"):
        lines += [_one_line(section.schema["description"]), ""]
    if len(section.paths) > 1:
        others = ", ".join(f"`{path}`" for path in section.paths[1:])
        lines += [f"The same keys stand under {others}.", ""]
    lines += ["| key | type | default | description |", "|---|---|---|---|"]
    required = set(section.schema.get("required", ()))
    for key, value in section.schema.get("properties", {}).items():
        text = value.get("description") or DESCRIPTIONS.get(f"{section.model}.{key}", "")
        text = text or _inherited(section, key)
        cells = [
            f"`{key}`",
            _type(value, titles),
            "required" if key in required else _default(value),
            _one_line(text),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _type(schema: Schema, titles: Mapping[str, str]) -> str:
    """What a value may be, in words."""
    references = list(_references(schema, ""))
    if references:
        links = " or ".join(_link(titles[name]) for name, _ in references)
        return f"{_container(schema)}{links}"
    if "anyOf" in schema:
        return " or ".join(_type(choice, titles) for choice in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    return _plain_type(schema, titles)


def _plain_type(schema: Schema, titles: Mapping[str, str]) -> str:
    kind = schema.get("type")
    if kind == "array":
        return _array(schema, titles)
    if kind == "object":
        values = schema.get("additionalProperties")
        inner = f" to {_type(values, titles)}" if isinstance(values, Mapping) else ""
        return f"mapping{inner}"
    if kind in {"integer", "number"}:
        word = "whole number" if kind == "integer" else "number"
        return " ".join([word, _bounds(schema)]).rstrip()
    if kind == "string":
        return _string(schema)
    return {"boolean": "`true` or `false`", "null": "`null`"}.get(str(kind), "any value")


def _array(schema: Schema, titles: Mapping[str, str]) -> str:
    if "prefixItems" in schema:
        items = [_type(item, titles) for item in schema["prefixItems"]]
        if len(set(items)) == 1:
            return f"{len(items)} values: {items[0]}"
        return f"[{', '.join(items)}]"
    return f"list of {_type(schema.get('items', {}), titles)}"


def _container(schema: Schema) -> str:
    if schema.get("type") == "array":
        return "list of "
    return "mapping of names to " if schema.get("type") == "object" else ""


def _string(schema: Schema) -> str:
    pattern = schema.get("pattern")
    if pattern is None:
        return "text"
    alternatives = _ALTERNATIVES.fullmatch(pattern)
    if alternatives:
        return " or ".join(f"`{value}`" for value in alternatives[1].split("|"))
    return "name" if schema.get("maxLength") == _NAME_LENGTH else f"text that matches `{pattern}`"


def _bounds(schema: Schema) -> str:
    found = {
        sign: f"{sign} {schema[key]:g}"
        for key, sign in _SIGNS.items()
        if key in schema and schema[key] not in SLIPS
    }
    if "≥" in found and found.get(">") == "> 0":
        # Of a type and of its field.
        del found[">"]
    return " and ".join(found.values())


def _default(schema: Schema) -> str:
    """The default; that of a group stands in the group's own table."""
    if list(_references(schema, "")) and isinstance(schema.get("default"), Mapping):
        return "see there" if schema["default"] else "`{}`"
    if "default" not in schema:
        return "`{}`" if schema.get("type") == "object" else "see there"
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


def _link(title: str) -> str:
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{title}](#{anchor})"


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
