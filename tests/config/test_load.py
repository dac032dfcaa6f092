"""From files to one configuration: overlays, defaults, studies without a part, resolved files."""

from __future__ import annotations

import copy
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import ROOT
from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError
from voxseq.config import Config, load_config, merge, read_yaml, write_resolved
from voxseq.config.finetune import ResNetSettings, UNet3DSettings
from voxseq.config.load import validate
from voxseq.plan import build_plan

DEMO = read_yaml(ROOT / "params.yaml")
RESOLVED = load_config(ROOT / "params.yaml").model_dump(mode="json")


def with_overlays(*overlays: dict[str, Any]) -> Config:
    return load_config(ROOT / "params.yaml", overlays)


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


def test_overlays_are_laid_in_turn() -> None:
    first, second = {"pretrain": {"steps": 700, "threads": 2}}, {"pretrain": {"steps": 900}}
    config = with_overlays(first, second)
    assert (config.pretrain.steps, config.pretrain.threads) == (900, 2)
    with pytest.raises(ValueError, match="frozen"):
        config.pretrain.steps = 3  # type: ignore[misc]


def test_defaults_of_a_type_lie_below_each_task_of_it() -> None:
    tasks, shared = Config.model_validate(DEMO).finetune.tasks, DEMO["finetune"]["defaults"]
    assert tasks["la"].steps == shared["segmentation"]["steps"]
    assert tasks["la"].data.spacing == (1.25, 1.25, 1.25)
    assert tasks["nodule"].pretrained.layer_decay is None
    assert tasks["nodule"].pretrained.lr == shared["classification"]["pretrained"]["lr"]


def test_networks_of_a_task_are_laid_over_those_of_all() -> None:
    recipe = {"lr": 1e-3, "weight_decay": 0, "schedule": "multistep"}
    own = {"resnet": {"input_shape": [28, 28, 28], "optimiser": {"lr": 0.5}}}
    both = {"unet3d!": {}, "resnet!": {"stem": "small", "optimiser": recipe}}
    tasks = with_overlays(
        {
            "finetune": {
                "scratch": ["resnet", "vit"],
                "networks": both,
                "tasks": {"nodule": {"networks!": own}},
            }
        }
    ).finetune.tasks
    nodule, ricord, la = tasks["nodule"], tasks["ricord"], tasks["la"]
    small = ResNetSettings(stem="small", width=1.0)
    sized = ResNetSettings(stem="small", width=1.0, input_shape=(28, 28, 28))
    assert nodule.network_settings("resnet") == sized
    assert ricord.network_settings("resnet") == small
    assert nodule.optimiser_of("resnet", "scratch").lr == 0.5
    assert nodule.optimiser_of("resnet", "scratch").schedule == "multistep"
    assert nodule.optimiser_of("vit", "scratch") == nodule.scratch
    assert ricord.optimiser_of("resnet", "scratch").lr == 1e-3
    assert la.network_settings("unetr") is None
    assert la.optimiser_of("unetr", "pretrained") == la.pretrained
    # Defaults are those of the paper.
    paper = UNet3DSettings(features=(32, 64, 128, 256, 512, 32), norm="instance")
    without = with_overlays({"finetune": {"networks!": {}, "scratch": ["unetr", "vit"]}})
    assert without.finetune.tasks["la"].network_settings("unet3d") == paper


def test_a_key_of_a_task_is_named_as_it_stands_in_the_file() -> None:
    with pytest.raises(ConfigError, match=r"  finetune\.tasks\.la\.steps: .*given: -3"):
        with_overlays({"finetune": {"tasks": {"la": {"steps": -3}}}})


def test_every_wrong_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)encoder\.depth.*pretrain\.steps"):
        with_overlays({"pretrain": {"steps": -1}, "encoder": {"depth": 0}})


def test_an_empty_file_lacks_its_name(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    with pytest.raises(ConfigError, match="scale: Field required"):
        load_config(path)


NO_STUDIES: dict[str, Any] = {
    "ablation!": {"tasks": [], "variants": {}},
    "label_ratio": {"tasks": [], "methods": None},
    "beyond!": {"token_order": [], "recipes": [], "frozen": [], "trivial": []},
}
NO_METHODS = {"pretrain": {"methods!": {}}}
CLASSIFICATION = {
    "type": "classification",
    "title": "Nodule",
    "dataset": "nodule",
    "labels": ["benign", "malignant"],
    "data": {"scale": 255, "normalise": "none"},
}


@pytest.mark.parametrize(
    ("overlays", "stages"),
    [
        ([{"finetune": {"tasks!": {}}}], {"sequences", "pretrain"}),
        ([NO_METHODS, {"sequences": {"sources!": []}}], {"finetune"}),
        (
            [NO_METHODS, {"finetune": {"scratch": []}, "beyond": {"trivial": ["nodule"]}}],
            {"beyond", "sequences"},
        ),
    ],
)
def test_studies_without_some_of_their_parts(overlays: Any, stages: set[str]) -> None:
    plan = build_plan(with_overlays(NO_STUDIES, *overlays))
    always = {"download", "preprocess", "scores", "tables", "figures"}
    assert {run.stage for run in plan.runs.values()} == always | stages


@pytest.mark.parametrize(
    "finetune",
    [
        {"tasks!": {}},
        {"scratch": []},
        {"scratch": ["unetr"], "tasks!": {"nodule": CLASSIFICATION}},
    ],
)
def test_a_study_that_trains_nothing_is_refused(finetune: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nothing would be trained") as caught:
        with_overlays(NO_STUDIES, NO_METHODS, {"finetune": finetune})
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize("scale", ["demo", "smoke", "open", "paper"])
def test_the_resolved_configuration_reads_back_as_the_same(tmp_path: Path, scale: str) -> None:
    """Jobs read it as JSON; its name is its digest."""
    overlays = [read_yaml(ROOT / f"workflow/scales/{scale}.yaml")] if scale != "demo" else []
    config = with_overlays(*overlays)
    path = write_resolved(config, tmp_path)
    assert path.stem == digest(json.loads(path.read_text()))
    assert load_config(path) == config
    assert build_plan(load_config(path)).runs == build_plan(config).runs


TITLES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30
).filter(str.strip)


def named(title: str, **more: Any) -> dict[str, Any]:
    tasks = RESOLVED["finetune"]["tasks"]
    la = {**tasks["la"], "title": title, **more}
    return {**RESOLVED, "finetune": {**RESOLVED["finetune"], "tasks": {**tasks, "la": la}}}


def read_back(title: str, folder: Path) -> None:
    config = validate(named(title, labels=[title]), "x")
    assert load_config(write_resolved(config, folder)) == config


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(title=TITLES)
def test_texts_are_read_back_as_they_are(title: str, tmp_path: Path) -> None:
    read_back(title, tmp_path)


def test_characters_of_every_plane_are_read_back(tmp_path: Path) -> None:
    """The first printable one of each plane, and those at which encodings break."""
    firsts = [
        next((chr(c) for c in range(p * 65536 + 0x20, (p + 1) * 65536) if is_printable(c)), "")
        for p in range(17)
    ]
    read_back("".join(firsts), tmp_path)
    read_back("\ud7ff\ue000￼\U00010000\U0001fac0\U0010ffff\u200d#: \"'\\/{}[]", tmp_path)


def is_printable(number: int) -> bool:
    return unicodedata.category(chr(number)) not in {"Cc", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a\ud83e", "lone surrogate U+D83E"),
        ("a\udec0b", "lone surrogate U+DEC0"),
        ("a\nb", "control character U+000A"),
        ("a\x00", "U+0000"),
        ("a\x1b[31m", "U+001B"),
        ("a\x7f", "U+007F"),
        ("a\x85", "U+0085"),
        ("a\u2028b", "U+2028"),
    ],
)
def test_texts_that_no_line_holds_are_refused_with_the_key(text: str, word: str) -> None:
    places = (
        ("finetune.tasks.la.title", named(text)),
        ("finetune.tasks.la.labels.0", named("LA", labels=[text])),
        ("data.root", {**RESOLVED, "data": {**RESOLVED["data"], "root": text}}),
        ("pretrain", {**RESOLVED, "pretrain": {**RESOLVED["pretrain"], text: 1}}),
    )
    for key, content in places:
        with pytest.raises(ConfigError) as caught:
            validate(content, "mine.yaml")
        assert f"  {key}: " in str(caught.value)
        assert word in str(caught.value)
        str(caught.value).encode()


@pytest.mark.parametrize("title", ["", "  ", "x" * 101, "x" * 100_000])
def test_titles_have_a_sensible_length(title: str) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.tasks\.la\.title") as caught:
        validate(named(title), "mine.yaml")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("damage", [b"", b'{"scale": "de', b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    config = validate(RESOLVED, "x")
    path = write_resolved(config, tmp_path)
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    assert write_resolved(config, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(damage)
    assert write_resolved(config, tmp_path) == path
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
