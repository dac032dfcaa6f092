"""Configurations that must be refused, and how trees are laid over each other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.config import Config, load_config, merge, read_yaml
from voxseq.config.load import validate
from voxseq.plan import build_plan

OPTIMISER = ("pretrain", "methods", "ours", "optimiser")
LA = ("finetune", "tasks", "la")

#: Path of a key, the value put there, and words that the message must hold.
REFUSED: list[tuple[tuple[Any, ...], Any, tuple[str, ...]]] = [
    (("sequencs",), {}, ("sequencs", "Extra inputs")),
    (("encoder", "widht"), 96, ("encoder.widht", "96")),
    ((*OPTIMISER, "momentum"), 0.9, ("pretrain.methods.ours", "optimiser.momentum", "0.9")),
    ((*LA, "pretrained", "leyer_decay"), 0.5, (".la.", "leyer_decay", "0.5")),
    (("sequences", "spatial", "stride"), 5, ("spatial.stride 5", "overruns", "at most 4")),
    (
        ("ablation", "variants", "stride12", "stride"),
        9,
        ("ablation.variants.stride12", "stride 9", "at most 4"),
    ),
    (("label_ratio", "tasks"), ["task99"], ("unknown task 'task99'", "task03_liver")),
    (("ablation", "tasks"), ["task99"], ("unknown task 'task99'", "finetune.tasks has")),
    ((*LA, "dataset"), "left_atrium_2", ("finetune.tasks.la.dataset", "left_atrium_2")),
    (("sequences", "sources", 0, "dataset"), "amos2", ("sequences.sources.0", "'amos2'", "amos22")),
    (("sequences", "sources", 0, "kind"), "temporal", ("sources.0.kind", "temporal", "spatial")),
    (("pretrain", "steps"), -5, ("pretrain.steps", "-5", "greater than 0")),
    ((*LA, "steps"), 0, ("steps", "0", "greater than 0")),
    (("pretrain", "steps"), 12.5, ("pretrain.steps", "12.5", "integer")),
    (("pretrain", "steps"), True, ("pretrain.steps", "True", "number")),
    (("pretrain", "steps"), "many", ("pretrain.steps", "many", "integer")),
    (("pretrain", "steps"), None, ("pretrain.steps", "None", "integer")),
    (("pretrain", "steps"), [1200], ("pretrain.steps", "1200", "integer")),
    (("pretrain", "steps"), 10**400, ("pretrain.steps", "1000", "2147483647")),
    (("pretrain", "batch_size"), 2**31, ("pretrain.batch_size", "2147483648", "less than")),
    (("data", "phantoms", "seed"), -1, ("data.phantoms.seed", "-1", "greater than or equal")),
    ((*OPTIMISER, "lr"), 10**400, ("optimiser.lr", "number")),
    ((*OPTIMISER, "lr"), float("inf"), ("optimiser.lr", "inf", "finite")),
    ((*OPTIMISER, "lr"), float("nan"), ("optimiser.lr", "nan")),
    ((*OPTIMISER, "lr"), 0, ("optimiser.lr", "0", "greater than 0")),
    ((*OPTIMISER, "betas"), [0.9, 1.5], ("optimiser.betas.1", "1.5", "less than 1")),
    (
        (*OPTIMISER, "schedule"),
        "linear",
        ("optimiser.schedule", "linear", "cosine", "poly", "constant"),
    ),
    (("pretrain", "precision"), "8-bit", ("pretrain.precision", "8-bit", "bf16-mixed")),
    (("pretrain", "methods", "our"), {}, ("pretrain.methods.our", "choose from", "ours")),
    (("pretrain", "methods", "ours"), "yes", ("pretrain.methods.ours", "yes", "dictionary")),
    (("encoder", "heads"), 5, ("width 96", "heads 5")),
    (("encoder", "width"), 32, ("width 32", "not divisible by 6")),
    (("encoder", "patch_size"), [4, 4], ("encoder.patch_size", "Field required")),
    (("encoder", "patch_size"), [5, 5, 5], ("sequences.volume_shape", "multiple", "patch_size")),
    (("encoder", "patch_size"), [4, 4, 2], ("patch_size (4, 4, 2)", "power of two")),
    (("sequences", "volume_shape"), [16, 16, 18], ("last axis 18", "multiple of length 4")),
    (("sequences", "length"), 8, ("contrast.contrasts", "names 4", "length = 8")),
    (("sequences", "percentiles"), [99, 1], ("percentiles (99.0, 1.0)", "low < high")),
    (("sequences", "spatial", "window_shape"), [8, 8, 16], ("spatial.window_shape", "agree")),
    (("sequences", "spatial", "weight"), 1.0, ("weight", "spatial", "contrast", "semantic")),
    (("sequences", "sources"), [], ("pretrain.methods", "sequences.sources")),
    (
        ("sequences", "sources"),
        [{"dataset": "amos22", "kind": "spatial"}] * 2,
        ("sources", "amos22", "more than once"),
    ),
    (("data", "split_ratio"), [0.5, 0.1, 0.1], ("split_ratio", "0.7", "expected 1")),
    (("data", "min_valid_fraction"), 0, ("data.min_valid_fraction", "0", "greater than 0")),
    (("scale",), "../elsewhere", ("scale", "../elsewhere", "pattern")),
    (("results",), "/somewhere", ("results", "/somewhere", "pattern")),
    (("results",), "results/../..", ("results", "pattern")),
    (("finetune",), None, ("finetune", "None", "dictionary")),
    (("finetune", "seeds"), [0, 0], ("finetune.seeds", "0 occurs more than once", "distinct")),
    (("finetune", "seeds"), [], ("finetune.seeds", "at least 1 item")),
    (("finetune", "scratch"), ["swin"], ("finetune.scratch", "swin", "unetr, unet3d, resnet, vit")),
    (("finetune", "scratch"), ["ours"], ("finetune.scratch", "ours", "unetr, unet3d, resnet, vit")),
    (("finetune", "defaults"), 3, ("defaults", "segmentation and classification")),
    (("finetune", "defaults", "segmentation"), 3, ("defaults", "mapping", "segmentation")),
    (
        ("finetune", "tasks"),
        {},
        ("label_ratio.tasks: unknown task 'la'", "finetune.tasks has none"),
    ),
    (("finetune", "tasks"), [1], ("finetune.tasks", "dictionary")),
    (("finetune", "tasks", "$(id)"), {"type": "segmentation"}, ("$(id)", "pattern")),
    ((*LA, "type"), "regression", ("regression", "segmentation", "classification")),
    ((*LA, "type"), ["segmentation"], ("la", "type")),
    ((*LA, "labels"), [], ("labels", "at least one")),
    ((*LA, "class_weights"), [1], ("class_weights has 1", "expected 2", "left atrium")),
    ((*LA, "roi"), [16, 16, 18], ("finetune.tasks.la.roi", "18", "multiple")),
    ((*LA, "overlap"), 1.0, ("overlap", "1.0", "less than 1")),
    ((*LA, "data", "resize"), [16, 16, 16], ("spacing or resize, not both",)),
    (("finetune", "tasks", "task09_spleen", "data", "window"), [9, -9], ("window", "low < high")),
    (("finetune", "tasks", "task09_spleen", "data", "window"), None, ("needs window",)),
    (("finetune", "tasks", "nodule", "data", "resize"), None, ("nodule.data.resize", "shape")),
    (("finetune", "tasks", "nodule", "labels"), ["one"], ("labels", "Field required")),
    (("label_ratio", "ratios"), [0.5, 1.5], ("label_ratio.ratios.1", "1.5", "less than or equal")),
    (("label_ratio", "ratios"), [0.5, 0.5], ("label_ratio.ratios", "0.5", "more than once")),
    (("ablation", "tasks"), ["la", "la"], ("ablation.tasks", "la", "more than once")),
    (("ablation", "variants", "no_random_start", "attention"), "full", ("attention", "full")),
    (("pretrain", "methods"), {}, ("variants of 'ours'", "pretrain.methods")),
    (("execution",), {"pretrain": {"threads": 0}}, ("execution.pretrain.threads", "0")),
    ((1,), 2, ("1", "strings")),
]


@pytest.fixture(scope="module")
def demo(root: Path) -> dict[str, Any]:
    return read_yaml(root / "params.yaml")


def changed(tree: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(tree)
    place: Any = copied
    for key in path[:-1]:
        place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
    place[path[-1]] = value
    return copied


@pytest.mark.parametrize(("path", "value", "words"), REFUSED, ids=lambda v: repr(v)[:50])
def test_impossible_values_are_refused_with_key_value_and_expectation(
    demo: dict[str, Any], path: tuple[Any, ...], value: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(changed(demo, path, value), "mine.yaml")
    message = str(caught.value)
    assert "mine.yaml" in message
    for word in words:
        assert word in message
    assert caught.value.hint


@pytest.mark.parametrize(
    "name", ["params.yaml", *(f"workflow/scales/{n}.yaml" for n in ("smoke", "open"))]
)
def test_the_configurations_of_the_repository_are_valid(root: Path, name: str) -> None:
    if not (root / name).exists():
        pytest.skip(f"{name} is not there")
    overlays = [] if name == "params.yaml" else [read_yaml(root / name)]
    assert build_plan(load_config(root / "params.yaml", overlays)).runs


def test_every_wrong_value_is_named_at_once(demo: dict[str, Any]) -> None:
    content = changed(demo, ("pretrain", "steps"), -1)
    content = changed(content, ("encoder", "depth"), 0)
    with pytest.raises(ConfigError, match=r"(?s)encoder\.depth.*pretrain\.steps"):
        validate(content, "x")


BROKEN_FILES = {
    "duplicate": (b"scale: a\nscale: b\n", "duplicate key 'scale'"),
    "nested duplicate": (b"encoder: {width: 6, width: 12}\n", "duplicate key 'width'"),
    "anchor": (b"a: &x [1]\nb: *x\n", "anchors and aliases"),
    "alias bomb": (
        b"a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n",
        "anchors and aliases",
    ),
    "merge key": (b"a: {<<: {b: 1}}\n", "YAML"),
    "list": (b"- 1\n- 2\n", "found list"),
    "word": (b"scale\n", "found str"),
    "number": (b"3\n", "found int"),
    "two documents": (b"a: 1\n---\nb: 2\n", "YAML"),
    "bracket": (b"a: [1, 2\n", "YAML"),
    "tab": (b"a:\n\t- 1\n", "YAML"),
    "python object": (b"a: !!python/object/apply:os.system ['true']\n", "YAML"),
    "python name": (b"a: !!python/name:os.system\n", "YAML"),
    "list as key": (b"? [1, 2]\n: 3\n", "a key must be a plain word"),
    "mapping as key": (b"? {a: 1}\n: 3\n", "a key must be a plain word"),
    "null key": (b"~: 3\n", "a key must be a plain word"),
    "not utf-8": (b"a: \xff\xfe\n", "cannot be read"),
    "zero bytes": (b"a: \x00\n", "YAML"),
    "binary": (bytes(range(256)), "cannot be read"),
    "huge integer": (b"a: " + b"9" * 6000 + b"\n", "YAML"),
    "impossible date": (b"a: 2024-99-99\n", "YAML"),
    "deep": (b"a: " + b"[" * 20_000 + b"\n", "YAML"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, name: str) -> None:
    content, words = BROKEN_FILES[name]
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.hint


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(path)


def test_an_empty_file_lacks_required_keys(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    with pytest.raises(ConfigError, match=r"(?s)scale: Field required.*finetune: Field required"):
        load_config(path)


def test_nothing_is_executed_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    witness = tmp_path / "witness"
    path.write_text(f"a: !!python/object/apply:pathlib.Path.touch ['{witness}']\n")
    with pytest.raises(ConfigError):
        read_yaml(path)
    assert not witness.exists()


def _leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in items for leaf in _leaves(value, (*path, key))]
    return [path]


DEMO = read_yaml(ROOT / "params.yaml")
PLACES = sorted({p[:n] for p in _leaves(DEMO) for n in range(1, len(p) + 1)}, key=repr)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**301),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(-2, 40), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    st.lists(st.lists(st.text(max_size=2), max_size=2), max_size=2),
    st.dates(),
    st.binary(max_size=4),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK), min_size=1, max_size=3))
def test_any_junk_is_either_planned_or_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """Whatever stands in a place of the file: a plan, or our own error; no other exception."""
    content = copy.deepcopy(DEMO)
    for path, value in changes:
        try:
            content = changed(content, path, value)
        except (AttributeError, IndexError, KeyError, TypeError):
            continue  # an earlier change took this place away
    try:
        config = validate(content, "junk.yaml")
    except ConfigError as error:
        assert "junk.yaml" in str(error)
        return
    assert build_plan(config).runs


@pytest.mark.parametrize("scale", [None, "smoke", "open"])
def test_the_resolved_configuration_reads_back_as_the_same(
    tmp_path: Path, root: Path, scale: str | None
) -> None:
    """Jobs read the resolved configuration as JSON through the YAML reader."""
    from voxseq.base.files import write_json

    overlay = root / f"workflow/scales/{scale}.yaml"
    if scale and not overlay.exists():
        pytest.skip(f"{overlay} is not there")
    config = load_config(root / "params.yaml", [read_yaml(overlay)] if scale else [])
    path = tmp_path / "resolved.json"
    write_json(path, config.model_dump(mode="json"))
    assert load_config(path) == config
    assert build_plan(load_config(path)).runs == build_plan(config).runs


def test_small_numbers_without_a_point_are_numbers(demo: dict[str, Any], tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a word; a user means the number."""
    path = tmp_path / "x.yaml"
    path.write_text("pretrain: {methods: {ours: {optimiser: {lr: 1e-4}}}}\n")
    config = validate(merge(demo, read_yaml(path)), "x")
    assert config.pretrain.methods["ours"]["optimiser"]["lr"] == 1e-4


def test_defaults_of_a_type_lie_below_each_task_of_it(demo: dict[str, Any]) -> None:
    config = Config.model_validate(demo)
    la, nodule = config.finetune.tasks["la"], config.finetune.tasks["nodule"]
    shared = demo["finetune"]["defaults"]
    assert la.steps == shared["segmentation"]["steps"]
    assert la.data.spacing == (1.25, 1.25, 1.25)
    assert nodule.pretrained.layer_decay is None
    assert nodule.pretrained.lr == shared["classification"]["pretrained"]["lr"]


TREES = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda children: (
        st.dictionaries(st.sampled_from("abc"), children, max_size=3)
        | st.lists(children, max_size=2)
    ),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@settings(deadline=None)
@given(MAPPINGS, MAPPINGS)
def test_merging_keeps_what_the_overlay_does_not_name(
    base: dict[str, Any], overlay: dict[str, Any]
) -> None:
    kept = copy.deepcopy((base, overlay))
    merged = merge(base, overlay)
    assert (base, overlay) == kept
    assert set(merged) == set(base) | set(overlay)
    assert merge(merged, overlay) == merged
    assert merge(base, {}) == base
    assert merge({}, base) == base
    for key, value in merged.items():
        if key not in overlay:
            assert value == base[key]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            assert value == merge(base[key], overlay[key])
        else:
            assert value == overlay[key]


def test_an_exclamation_mark_replaces_instead_of_merging() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merge(base, {"a": {"x": 9}}) == {"a": {"x": 9, "y": {"z": 2}}, "b": 3}
    assert merge(base, {"a!": {"x": 9}}) == {"a": {"x": 9}, "b": 3}
    assert merge(base, {"a": {"y!": {"q": 1}}}) == {"a": {"x": 1, "y": {"q": 1}}, "b": 3}
    assert merge(base, {"a": {"y": None}})["a"] == {"x": 1, "y": None}
    assert merge(base, {"c!": [1]})["c"] == [1]


def test_overlays_are_laid_in_turn(tmp_path: Path, demo: dict[str, Any]) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(demo))
    first, second = {"pretrain": {"steps": 700, "seed": 8}}, {"pretrain": {"steps": 900}}
    config = load_config(path, [first, second])
    assert (config.pretrain.steps, config.pretrain.seed) == (900, 8)


def test_the_configuration_cannot_be_changed_after_validation(demo: dict[str, Any]) -> None:
    config = validate(demo, "x")
    with pytest.raises(ValueError, match="frozen"):
        config.pretrain.steps = 3  # type: ignore[misc]


def test_a_key_of_a_task_is_named_as_it_stands_in_the_file(tmp_path: Path, root: Path) -> None:
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["finetune"]["tasks"]["la"]["steps"] = -3
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"  finetune\.tasks\.la\.steps: .*given: -3"):
        load_config(path)
