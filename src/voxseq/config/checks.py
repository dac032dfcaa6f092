"""Checks across the parts of a configuration, before any work begins.

What concerns one part alone is checked by its model, what concerns one method by its settings
(:meth:`voxseq.config.methods.base.MethodSettings.misfits`).
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping

from voxseq.base.errors import ConfigError
from voxseq.config.base import Shape3
from voxseq.config.data import chosen_channels
from voxseq.config.feasible import of_phantoms
from voxseq.config.finetune import ClassificationTask, RegressionTask, SegmentationTask, Task
from voxseq.config.methods.base import MethodSettings
from voxseq.config.model import OptimiserConfig
from voxseq.config.problems import Problem
from voxseq.config.registry import METHODS, scratch
from voxseq.config.root import Config
from voxseq.config.study_checks import FULL, of_studies
from voxseq.config.study_rows import of_outside, study_methods

#: Bytes of a batch, weights of an encoder, and tokens of a volume: far beyond what machines hold.
MOST_BYTES, MOST_WEIGHTS, MOST_TOKENS = 2**40, 10**11, 2**18
_FLOAT = 4


def problems(config: Config, settings: Mapping[str, MethodSettings]) -> Iterator[Problem]:
    """All that is wrong with a configuration whose parts are valid by themselves.

    Args:
        config: with complete settings of methods.
        settings: these as models.
    """
    for find in (_names, _channels):
        unknown = list(find(config))
        yield from unknown
        if unknown:
            return
    for check in _CHECKS:
        yield from check(config)
    from voxseq.config.method_checks import of_division, of_methods

    yield from of_methods(config, settings)
    yield from of_division(config)


def _names(config: Config) -> Iterator[Problem]:
    """Data sets, networks, methods and tasks that do not exist."""
    named = {f"finetune.tasks.{n}.dataset": t.dataset for n, t in config.finetune.tasks.items()}
    for number, source in enumerate(config.sequences.sources):
        named[f"sequences.sources.{number}.dataset"] = source.dataset
    for key, dataset in named.items():
        try:
            config.data.dataset(dataset)
        except ConfigError as error:
            yield Problem(key, f"{error.what}; {error.hint}")
    tasks, methods = config.finetune.tasks, {**METHODS, **study_methods(config)}
    in_tasks, ratio = "finetune.tasks has", config.label_ratio
    for key, names, kind, known, expected in (
        ("finetune.scratch", config.finetune.scratch, "network", scratch(), "choose from"),
        ("label_ratio.tasks", ratio.tasks, "task", tasks, in_tasks),
        ("ablation.tasks", config.ablation.tasks, "task", tasks, in_tasks),
        ("beyond", config.beyond.tasks, "task", tasks, in_tasks),
        ("label_ratio.methods", ratio.methods or (), "method", methods, "choose from"),
    ):
        for name in names:
            if name not in known:
                words = ", ".join(known) or "none"
                yield Problem(key, f"unknown {kind} {name!r}; {expected} {words}")


def _channels(config: Config) -> Iterator[Problem]:
    """Channels that the images of a data set lack, and windows that do not fit them."""
    for number, source in enumerate(config.sequences.sources):
        try:
            chosen_channels(config.data.dataset(source.dataset).channels, source.channels)
        except ValueError as error:
            yield Problem(f"sequences.sources.{number}.channels", f"{source.dataset}: {error}")
    for name, task in config.finetune.tasks.items():
        try:
            used = chosen_channels(config.data.dataset(task.dataset).channels, task.data.channels)
        except ValueError as error:
            key = f"finetune.tasks.{name}.data.channels"
            yield Problem(key, f"{task.dataset}: {error}", task.type)
            continue
        try:
            task.data.windows(len(used))
        except ValueError as error:
            yield Problem(f"finetune.tasks.{name}.data.window", str(error), task.type)


def _work(config: Config) -> Iterator[Problem]:
    """A study that trains nothing would end with empty results."""
    types = {task.type for task in config.finetune.tasks.values()}
    rows = study_methods(config).values()
    trains = any(types & set(row.networks) for row in rows if row.settings is None)
    if not (config.pretrain.methods or trains or config.beyond.tasks):
        yield Problem(
            "pretrain.methods",
            "empty, and no network of finetune.scratch, and no encoder of finetune.encoders, has a "
            "task in finetune.tasks: nothing would be trained; expected a method, or a task and a "
            "network for it",
        )


def _folders(config: Config) -> Iterator[Problem]:
    from voxseq.config.place import FOLDERS

    name = config.results.removeprefix("results/")
    # Another study's results must not lie among those of the study in the folder above.
    if name.lower() in {folder for folders in FOLDERS.values() for folder in folders}:
        yield Problem(
            "results",
            f"{config.results} is where the study of the folder results puts its {name}; "
            f"expected a folder of its own, such as results/{config.scale}",
        )


def _encoder(config: Config) -> Iterator[Problem]:
    encoder, tasks = config.encoder, config.finetune.tasks.values()
    weights = encoder.depth * encoder.width * (4 * encoder.width + 2 * encoder.mlp_width)
    if weights > MOST_WEIGHTS:
        yield Problem(
            "encoder", f"about {weights:.0e} weights; expected at most {MOST_WEIGHTS:.0e}"
        )
    if any(isinstance(task, SegmentationTask) for task in tasks) and not encoder.has_binary_cubes:
        yield Problem(
            "encoder.patch_size",
            f"patch_size {encoder.patch_size}: the segmentation network needs a cube whose side "
            "is a power of two",
        )
    if not config.pretrain.methods:
        return
    sequences = config.sequences
    yield from _box(config, "sequences.volume_shape", sequences.volume_shape)
    if sequences.image_shape != sequences.volume_shape:
        yield from _box(config, "sequences.spatial.window_shape", sequences.image_shape)
    thickness, token = sequences.patch_shape[2], encoder.patch_size[2]
    if thickness % token:
        yield Problem(
            "sequences.length",
            f"a patch is {thickness} voxels thick (volume_shape {sequences.volume_shape}, length "
            f"{sequences.length}), which is not a multiple of encoder.patch_size {token}",
        )
    yield from _batch(
        "pretrain.batch_size", config.pretrain.batch_size, math.prod(sequences.volume_shape)
    )


def _box(config: Config, key: str, shape: Shape3) -> Iterator[Problem]:
    """A box that cannot be cut into tokens, or into too many."""
    found = config.encoder.misfit(shape)
    if found:
        yield Problem(key, found)
    elif config.encoder.tokens(shape) > MOST_TOKENS:
        yield Problem(
            key,
            f"{shape} are {config.encoder.tokens(shape)} tokens of encoder.patch_size "
            f"{config.encoder.patch_size}; expected at most {MOST_TOKENS}",
        )


def _batch(key: str, items: int, voxels: int) -> Iterator[Problem]:
    size = items * voxels * _FLOAT
    if size > MOST_BYTES:
        yield Problem(
            key,
            f"{items} items of {voxels} voxels take {size / 1e9:.3g} GB; expected at most "
            f"{MOST_BYTES / 1e9:.3g}",
        )


def _sources(config: Config) -> Iterator[Problem]:
    sequences = config.sequences
    if config.pretrain.methods and not sequences.sources:
        yield Problem("sequences.sources", "pretrain.methods need at least one entry")
    kinds = {source.kind for source in sequences.sources}
    for number, source in enumerate(sequences.sources):
        row = config.data.dataset(source.dataset)
        if source.kind not in row.kinds:
            yield Problem(
                f"sequences.sources.{number}.kind",
                f"{source.kind} sequences cannot be made of {source.dataset}; expected "
                f"{' or '.join(row.kinds)}",
            )
        elif source.kind == "contrast":
            has = row.options.get("contrasts", [name.lower() for name in row.channels])
            for name in sequences.contrast.contrasts:
                if name not in has:
                    yield Problem(
                        "sequences.contrast.contrasts",
                        f"{source.dataset} has no contrast {name!r}; it has {', '.join(has)}",
                    )
    for without in (None, *_left_out(config)):
        used = sorted(kinds - {without})
        weights = [getattr(sequences, kind).weight for kind in used]
        if used and not any(weight is None or weight > 0 for weight in weights):
            yield Problem(
                f"sequences.{used[0]}.weight",
                f"the weights of {', '.join(used)} are all 0; expected a positive one",
            )


def _left_out(config: Config) -> list[str]:
    variants = config.ablation.variants.values() if config.ablation.tasks else ()
    return sorted({variant.without for variant in variants if variant.without is not None})


def _tasks(config: Config) -> Iterator[Problem]:
    for name, task in config.finetune.tasks.items():
        for key, text in (*_of_dataset(config, task), *_of_recipe(config, name, task)):
            yield Problem(f"finetune.tasks.{name}.{key}", text, task.type)
        if isinstance(task, SegmentationTask):
            key, shape = f"finetune.tasks.{name}.roi", task.roi
            items = task.volumes_per_batch * task.crops_per_volume
        elif task.data.resize is None:
            yield Problem(
                f"finetune.tasks.{name}.data.resize",
                f"a {task.type} task needs a shape",
                task.type,
            )
            continue
        else:
            key, shape = f"finetune.tasks.{name}.data.resize", task.data.resize
            items = task.batch_size
        yield from _box(config, key, shape)
        yield from _batch(key, items, math.prod(shape))


def _of_dataset(config: Config, task: Task) -> Iterator[tuple[str, str]]:
    """Parts of a task that its data set cannot give: key below the task, and reason."""
    row = config.data.dataset(task.dataset)
    if row.role == "source":
        yield "dataset", f"{row.name} has no labels; it serves pre-training alone"
        return
    if row.task and row.task != task.type:
        yield "type", f"{task.type}, but the labels of {row.name} are for a {row.task}"
        return
    published = len(row.classes)
    if not published or isinstance(task, RegressionTask):
        return
    if isinstance(task, ClassificationTask):
        if published != len(task.labels):
            yield "labels", f"{len(task.labels)} names, but {row.name} has {published} classes"
        return
    merge, ignored = task.data.merge_labels, task.ignore_label
    for value in merge:
        if value > published:
            yield (
                "data.merge_labels",
                f"{value} is no label of {row.name}, which has 0 to {published}",
            )
    left = {merge.get(value, value) for value in range(published + 1)} - {0, ignored}
    named = set(range(1, len(task.labels) + 1))
    if left - named:
        yield (
            "data.merge_labels",
            f"the label {min(left - named)} is left of {row.name}, but labels names "
            f"{len(named)}: {', '.join(task.labels)}; name it there, or merge it into another",
        )
    if named - left:
        yield (
            "labels",
            f"{task.labels[min(named - left) - 1]!r} stands for the value {min(named - left)}, "
            f"which no label of {row.name} has"
            + (" after data.merge_labels" if merge else f"; it has 1 to {published}"),
        )


def _of_recipe(config: Config, name: str, task: Task) -> Iterator[tuple[str, str]]:
    """Contradictions in a task's recipe: key below the task, and reason."""
    for key, optimiser in _optimisers(config, name, task):
        if optimiser.warmup_steps > task.steps:
            yield (
                f"{key}.warmup_steps",
                f"{optimiser.warmup_steps} exceeds the {task.steps} steps of the training; "
                "expected no more",
            )
    shape = task.roi if isinstance(task, SegmentationTask) else task.data.resize
    merge = task.data.merge_labels
    if isinstance(task, SegmentationTask) and task.ignore_label in {*merge, *merge.values()}:
        yield (
            "ignore_label",
            f"{task.ignore_label} is in data.merge_labels too; expected one of both",
        )
    if shape is None:
        return
    key = "roi" if isinstance(task, SegmentationTask) else "data.resize"
    if task.augmentation == "msd" and shape[0] != shape[1]:
        yield (
            key,
            f"{shape}: augmentation msd turns crops about z, the first two axes must be equal",
        )
    if task.augmentation == "la" and math.prod(shape) < 2:
        yield key, f"{shape}: augmentation la needs 2 voxels or more"


def _optimisers(config: Config, name: str, task: Task) -> Iterator[tuple[str, OptimiserConfig]]:
    """Recipes that trainings of a task use, by their key below it."""
    both = name in config.beyond.recipes
    starts = config.pretrain.methods or config.finetune.encoders
    if starts or both or name in config.beyond.frozen:
        yield "pretrained", task.pretrained
    if config.finetune.scratch or both:
        yield "scratch", task.scratch
    for method in config.finetune.scratch:
        network = METHODS[method].networks.get(task.type)
        own = getattr(getattr(task.networks, str(network), None), "optimiser", None)
        if own is not None:
            yield f"networks.{network}.optimiser", own


def _plain(text: str) -> str:
    """A text as readers tell it from others: without regard to case, width and blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _same_words(words: Iterable[tuple[str, str]], what: str) -> Iterator[Problem]:
    """Keys whose texts cannot be told from an earlier one."""
    first: dict[str, str] = {}
    for key, word in words:
        other = first.setdefault(_plain(word), key)
        if other != key:
            yield Problem(key, f"{word!r} is the {what} of {other} too; expected distinct ones")


def _titles(config: Config) -> Iterator[Problem]:
    tasks, variants = config.finetune.tasks, config.ablation.variants
    at = "finetune.tasks"
    yield from _same_words(((f"{at}.{n}.title", t.title) for n, t in tasks.items()), "title")
    # Folders have these names, and some disks do not tell cases apart.
    yield from _same_words(((f"{at}.{n}", n) for n in tasks), "name")
    methods = study_methods(config).items()
    words = (
        (f"finetune.encoders.{n}.title" if m.is_outside else f"the row {n}", m.title)
        for n, m in methods
    )
    yield from _same_words(words, "title")
    rows = [("our full method", FULL)]
    rows += [(f"ablation.variants.{n}.title", v.title) for n, v in variants.items()]
    yield from _same_words(rows, "title")
    yield from _same_words(((f"ablation.variants.{n}", n) for n in variants), "name")
    for name, task in tasks.items():
        labels = ((f"{at}.{name}.labels.{i}", label) for i, label in enumerate(task.labels))
        yield from _same_words(labels, "name")


_CHECKS: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    _work,
    _folders,
    _encoder,
    _sources,
    _tasks,
    _titles,
    of_outside,
    of_studies,
    of_phantoms,
)
