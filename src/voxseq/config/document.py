"""The reference of all configuration keys, generated from the configuration models.

``voxseq config docs --write`` puts it into docs/configuration.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from voxseq.config.base import SLIPS
from voxseq.config.methods.base import MethodSettings
from voxseq.config.registry import pretrained
from voxseq.config.root import Config

Schema = Mapping[str, Any]

_HEADER = """\
# Configuration

<!-- Generated from the configuration models: `voxseq config docs --write`. Do not edit. -->

One YAML file, `params.yaml`, holds the whole configuration. `voxseq config show --all` prints every
key with its present value; `voxseq config check` says whether a file is valid. An unknown key, a
value that cannot be, or parts that do not agree are refused before any work starts; the message
names the key, its value, what was expected, the file and the line. Anchors, aliases and duplicate
keys are refused too. Limits that are far from all honest values are not listed below.

- **Defaults** below are those of the models. `params.yaml` sets other values for the demo.
- **Overlays** are files that are laid over `params.yaml`, such as `workflow/scales/open.yaml`.
  Mappings are merged key by key, everything else is replaced. A key that ends in `!` replaces the
  whole value of that name: `tasks!:` drops the tasks of the file below. Several are laid over each
  other in turn. `voxseq config use FILE` writes one into `params.yaml`, whose comments stay.
- **`standalone: true`** at the top of a file makes it a study of its own, as `voxseq init` writes
  them ([own-study.md](own-study.md)): nothing is taken from `params.yaml` or from files before it,
  absent keys have the defaults below, and sizes of encoder, sequences and pre-training have to be
  stated.
- **`finetune.defaults`** may hold `segmentation`, `classification` and `regression`. Every task is
  laid over the one of its own `type`; so what tasks share is written once. It does not exist after
  validation.
- **Shapes and spacings** are in the order (x, y, z).
- "required" in the column *default* means that there is none.
"""
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
#: What the methods' own fields do not say again.
_SHARED = {key: f.description or "" for key, f in MethodSettings.model_fields.items()}


def document() -> str:
    """Describe every key of the configuration, method settings included, as Markdown."""
    reference = _Reference()
    reference.add(Config, "")
    for name, method in pretrained().items():
        if method.settings is not None:
            reference.add(method.settings, f"pretrain.methods.{name}")
    return "\n".join([_HEADER, *map(reference.section, reference.paths)])


@dataclass
class _Reference:
    """One table for each model, at the first key under which it occurs.

    Attributes:
        schemas: JSON schema of each model.
        paths: keys under which each model occurs.
    """

    schemas: dict[str, Schema] = field(default_factory=dict)
    paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, model: type[BaseModel], path: str) -> None:
        """Add a model, and all below it, depth first."""
        schema = model.model_json_schema()
        self.schemas |= {**schema.get("$defs", {}), model.__name__: schema}
        self._visit(model.__name__, path)

    def _visit(self, name: str, path: str) -> None:
        known = self.paths.setdefault(name, [])
        if path not in known:
            known.append(path)
        if len(known) > 1:
            return
        above = path.partition(" (")[0]
        for key, schema in self.schemas[name].get("properties", {}).items():
            self._follow(schema, f"{above}.{key}".lstrip("."))

    def _follow(self, schema: Schema, path: str) -> None:
        """Visit the models that a value may be."""
        if "$ref" in schema:
            self._visit(_name(schema["$ref"]), path)
        for kind, reference in schema.get("discriminator", {}).get("mapping", {}).items():
            self._visit(_name(reference), f"{path} ({kind})")
        for choice in schema.get("anyOf", ()):
            self._follow(choice, path)
        if "items" in schema:
            self._follow(schema["items"], f"{path}[]")
        if values := _values(schema):
            self._follow(values, f"{path}.NAME")

    def section(self, name: str) -> str:
        """Heading, description and table of a model."""
        schema, (path, *others) = self.schemas[name], self.paths[name]
        lines = [f"## {path or 'top level'}", "", _one_line(schema["description"]), ""]
        if others:
            keys = ", ".join(f"`{path}`" for path in others)
            lines += [f"The same keys stand under {keys}.", ""]
        lines += ["| key | type | default | description |", "|---|---|---|---|"]
        for key, value in schema.get("properties", {}).items():
            is_required = key in schema.get("required", ())
            default = "required" if is_required else self._default(value)
            text = value.get("description") or _SHARED.get(key, "")
            cells = (f"`{key}`", self._type(value), default, _one_line(text))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join([*lines, ""])

    def _type(self, schema: Schema) -> str:
        """Allowed values in words."""
        if "$ref" in schema:
            title = self.paths[_name(schema["$ref"])][0]
            anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            return f"[{title}](#{anchor})"
        if choices := schema.get("anyOf", schema.get("oneOf")):
            return " or ".join(map(self._type, choices))
        if "enum" in schema or "const" in schema:
            return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
        return self._plain_type(schema)

    def _plain_type(self, schema: Schema) -> str:
        kind = str(schema.get("type", "any value"))
        words = {"string": "text", "boolean": "`true` or `false`", "null": "`null`"}
        text = words.get(kind, kind)
        match kind:
            case "array" if "prefixItems" in schema:
                items = [self._type(item) for item in schema["prefixItems"]]
                text = f"{len(items)} values: {' or '.join(dict.fromkeys(items))}"
            case "array":
                text = f"list of {self._type(schema['items'])}"
            case "object":
                values = _values(schema)
                text = f"mapping to {self._type(values)}" if values else "mapping"
            case "integer" | "number":
                word = "whole number" if kind == "integer" else "number"
                text = f"{word} {_bounds(schema)}".rstrip()
            case "string" if schema.get("maxLength") == _NAME_LENGTH:
                text = "name"
            case "string" if "pattern" in schema:
                text = f"text that matches `{schema['pattern']}`"
        return text

    def _default(self, schema: Schema) -> str:
        """The default; that of a group stands in the group's own table."""
        if "$ref" in schema and schema.get("default", True):
            return "see there"
        if "default" not in schema:
            return "`{}`" if schema.get("type") == "object" else "see there"
        return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _values(schema: Schema) -> Schema:
    """Schema of the values of a mapping; empty where anything goes."""
    patterns = schema.get("patternProperties", {})
    found = next(iter(patterns.values()), schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else {}


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


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
