"""JSON schema of configuration files, with which editors complete and check keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, get_args

from voxseq.config.registry import pretrained
from voxseq.config.root import Config
from voxseq.config.standalone import STANDALONE
from voxseq.config.task_types import TaskType

#: Where the repository, and every workspace, has it.
PLACE = "docs/params.schema.json"
#: Replaces a value instead of merging into it; see docs/configuration.md.
_REPLACES = "!"
_REPLACEABLE = ("object", "array")
#: Bounds that pydantic leaves beside a validator → the words of JSON schema.
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_STANDALONE = {
    "type": "boolean",
    "description": "a study of its own: nothing is taken from params.yaml",
}


def schema() -> dict[str, Any]:
    """The schema of params.yaml, and of all files that are laid over it.

    It says what a file may hold, not what a study needs: an overlay holds a few keys, and a task
    leaves to ``finetune.defaults`` what it shares with others. Parts that have to agree are checked
    by ``voxseq config check``.
    """
    root = Config.model_json_schema()
    definitions = root.pop("$defs")
    for method in pretrained().values():
        if method.settings is not None:
            own = method.settings.model_json_schema()
            definitions |= own.pop("$defs", {})
            definitions[method.settings.__name__] = own
    _add_methods(definitions)
    _add_defaults(definitions)
    root["properties"][STANDALONE] = dict(_STANDALONE)
    found = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **root,
        "title": "Configuration of voxseq",
        "$defs": dict(sorted(definitions.items())),
    }
    _each(found, _loosen)
    return found


def text() -> str:
    """The schema as a file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _add_methods(definitions: Mapping[str, dict[str, Any]]) -> None:
    """Each pre-training method has its own settings."""
    methods = definitions["PretrainConfig"]["properties"]["methods"]
    del methods["patternProperties"], methods["propertyNames"]
    methods["additionalProperties"] = False
    methods["properties"] = {
        name: {"$ref": f"#/$defs/{method.settings.__name__}"}
        for name, method in pretrained().items()
        if method.settings is not None
    }


def _add_defaults(definitions: Mapping[str, dict[str, Any]]) -> None:
    """``finetune.defaults`` holds what tasks of one type share; it is gone after validation."""
    finetune = definitions["FinetuneConfig"]["properties"]
    (task,) = finetune["tasks"]["patternProperties"].values()
    mapping = task["discriminator"]["mapping"]
    finetune["defaults"] = {
        "type": "object",
        "description": "type of task: what its tasks share",
        "properties": {name: {"$ref": mapping[name]} for name in get_args(TaskType)},
        "additionalProperties": False,
    }


def _each(node: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every mapping of a schema, inner ones first."""
    for value in list(node.values() if isinstance(node, dict) else node):
        if isinstance(value, dict | list):
            _each(value, change)
    if isinstance(node, dict):
        change(node)


def _loosen(node: dict[str, Any]) -> None:
    """Let a file leave keys out, and end those of mappings and lists in "!"."""
    if isinstance(node.get("required"), list):
        del node["required"]
    if isinstance(node.get("title"), str) and "properties" not in node:
        # The key again, in capitals.
        del node["title"]
    for bound, word in _BOUNDS.items():
        # The field's own bound comes before that of its type.
        if isinstance(node.get(bound), int | float):
            node.setdefault(word, node.pop(bound))
    if isinstance(node.get("oneOf"), list):
        # Without its type a task of an overlay may be of any.
        node["anyOf"] = node.pop("oneOf")
        node.pop("discriminator", None)
    if node.get("type") == "object":
        for key, value in list(node.get("properties", {}).items()):
            if "$ref" in value or value.get("type") in _REPLACEABLE:
                node["properties"][key + _REPLACES] = value
        if patterns := node.pop("patternProperties", {}):
            node["patternProperties"] = {
                pattern.removesuffix("$") + f"{_REPLACES}?$": value
                for pattern, value in patterns.items()
            }
