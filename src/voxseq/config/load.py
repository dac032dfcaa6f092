"""From params.yaml and its overlays to a validated configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxseq.base.commands import SCALES, STUDIES
from voxseq.base.digest import digest
from voxseq.base.files import read_json, write_json
from voxseq.config.finetune import SegmentationTask
from voxseq.config.moved import of_moved
from voxseq.config.overlay import merge
from voxseq.config.problems import Problem, Sources, of_texts, of_validation, refuse
from voxseq.config.reading import Document, read_yaml
from voxseq.config.root import Config
from voxseq.config.sets import ignored_value
from voxseq.config.standalone import SIZES_HINT, STANDALONE, is_standalone, of_standalone

__all__ = ["load_config", "read_yaml", "validate", "write_resolved"]
#: Where resolved configurations are kept.
RESOLVED = Path(".voxseq/config")


def load_config(path: Path, overlays: Iterable[Mapping[str, Any]] = ()) -> Config:
    """Read, merge and validate a configuration.

    Args:
        path: the base file, usually params.yaml.
        overlays: mappings laid over it in turn, such as a scale. One that says ``standalone: true``
            is a study of its own: it replaces the base and what is laid over it before.

    Raises:
        ConfigError: naming each key, its value, what was expected, and the file and line.
    """
    layers = list(overlays)
    if not any(is_standalone(layer) for layer in layers):
        layers.insert(0, read_yaml(path))
    own = max((number for number, layer in enumerate(layers) if is_standalone(layer)), default=None)
    layers = layers[own or 0 :]
    base = dict(layers[0]) if own is None else merge({}, layers[0])
    content = reduce(merge, layers[1:], base)
    stands_alone = content.pop(STANDALONE, False)
    names = [layer.name for layer in layers if isinstance(layer, Document)]
    over = f" with {', '.join(names[1:])} laid over it" if names[1:] else ""
    sources = Sources(f"{names[0] if names else path}{over}", layers)
    if stands_alone is not False:
        missing = list(of_standalone(stands_alone, content))
        # A key that is not stated may be there in another spelling.
        refuse([*missing, *(_of_kinds(content) if missing else ())], sources, SIZES_HINT)
    refuse([*_of_copies(layers), *_of_folders(path, layers[0], layers[1:], content)], sources)
    return validate(content, sources)


def validate(content: Mapping[str, Any], origin: str | Sources) -> Config:
    """Validate a configuration tree, method settings and all that must agree included.

    Args:
        content: the tree.
        origin: where it comes from, for messages.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    from voxseq.config.checks import problems
    from voxseq.config.method_checks import with_settings

    sources = origin if isinstance(origin, Sources) else Sources(origin)
    refuse(of_texts(content), sources)
    refuse(of_moved(content), sources)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        refuse([*of_validation(error, Config), *_of_settings(content)], sources)
        raise
    complete, settings, wrong = with_settings(config)
    refuse(wrong, sources)
    refuse(problems(complete, settings), sources)
    return _with_ignored(complete)


def _of_kinds(content: Mapping[str, Any]) -> Iterator[Problem]:
    """Unknown keys and values of the wrong kind, whatever else is missing or does not agree."""
    try:
        Config.model_validate(content)
    except ValidationError as error:
        found = of_validation(error, Config)
        apart = (item["type"] in ("missing", "value_error") for item in error.errors())
        yield from (problem for problem, is_apart in zip(found, apart, strict=True) if not is_apart)
    yield from _of_settings(content)


def _of_settings(content: Mapping[str, Any]) -> list[Problem]:
    """Problems of the methods' settings in a tree that has others."""
    from voxseq.config.method_checks import settings_of

    section = content.get("pretrain")
    methods = section.get("methods") if isinstance(section, Mapping) else None
    if not isinstance(methods, Mapping):
        return []
    named = {name: given for name, given in methods.items() if isinstance(given, Mapping)}
    return settings_of(named)[1]


def _with_ignored(config: Config) -> Config:
    """The configuration with what data sets of the user say of voxels that count for nothing."""
    tasks = dict(config.finetune.tasks)
    for name, task in tasks.items():
        row = config.data.sets.get(task.dataset)
        if row is None or not isinstance(task, SegmentationTask) or task.ignore_label is not None:
            continue
        value = ignored_value(row)
        # A value that the task uses itself is a class.
        used = {*range(1, len(task.labels) + 1), *task.data.merge_labels}
        if value is not None and value not in used:
            tasks[name] = task.model_copy(update={"ignore_label": value})
    if tasks == config.finetune.tasks:
        return config
    finetune = config.finetune.model_copy(update={"tasks": tasks})
    return config.model_copy(update={"finetune": finetune})


def write_resolved(config: Config, folder: Path = RESOLVED) -> Path:
    """Put every key with its value into a file that is named by its content; return the file.

    Jobs read it, so that an edit of params.yaml while the workflow runs cannot reach half of them;
    :func:`load_config` reads it back as the same configuration. A file that was cut or changed is
    written anew.
    """
    content = config.model_dump(mode="json")
    word = digest(content)
    path = folder / f"{word}.json"
    with suppress(OSError, ValueError, RecursionError):
        if digest(read_json(path)) == word:
            return path
    write_json(path, content)
    return path


def _of_copies(layers: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """A copy of a user's study that still has the name of the first."""
    for layer in layers:
        file = Path(layer.name) if isinstance(layer, Document) else Path()
        scale = layer.get("scale")
        if file.parent.name == STUDIES.name and is_standalone(layer) and scale != file.stem:
            yield Problem(
                "scale",
                f"{scale}, but the file is {file.name}, whose results would take the place of "
                f"those of {scale}; expected {file.stem}, with results: results/{file.stem}",
            )


def _of_folders(
    path: Path, base: Mapping[str, Any], overlays: Sequence[Mapping[str, Any]], content: Any
) -> list[Problem]:
    """Results that would be put in place of those of another scale, as far as files tell."""
    scale, results = content.get("scale"), content.get("results", "results")
    if not isinstance(scale, str) or not isinstance(results, str):
        return []
    owner = ""
    if overlays and scale != base.get("scale") and results == base.get("results", "results"):
        owner = f"scale {base.get('scale')} of {path}"
    name = results.removeprefix("results/")
    file = path.parent / SCALES / f"{name}.yaml"
    # A scale file that keeps the study's name adds to it, as more seeds do.
    if (
        name not in {scale, "results"}
        and file.is_file()
        and read_yaml(file).get("scale", base.get("scale")) != scale
    ):
        owner = f"{SCALES}/{file.name}"
    if not owner:
        return []
    return [
        Problem(
            "results",
            f"{results} is the folder of {owner}, whose tables would be lost; "
            f"scale {scale} needs its own, such as results/{scale}",
        )
    ]
