"""Encoders from elsewhere are rows like those of pre-training methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.base import checksums
from voxseq.base.checksums import Memory
from voxseq.base.errors import ConfigError
from voxseq.base.files import sha256
from voxseq.config import Config, merge, read_yaml
from voxseq.config.load import validate
from voxseq.plan import Plan, build_plan

RAW = read_yaml(ROOT / "params.yaml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(b"weights")
    return path


def study(encoders: dict[str, Any], **changes: Any) -> Config:
    return validate(merge(RAW, {"finetune": {"encoders": encoders}, **changes}), "mine.yaml")


def theirs(path: Path, **facts: Any) -> dict[str, Any]:
    return {"theirs": {"path": str(path), "title": "Theirs", **facts}}


def of_row(plan: Plan, name: str) -> set[str]:
    """Runs on tasks that load an encoder, without the name of the row."""
    return {
        run.id.replace(name, "ROW")
        for run in plan.runs.values()
        if any(i in (f"pretrain/{name}", f"pretrain/{name}/s0") for i in run.inputs)
        and run.stage not in ("scores", "tables", "figures")
    }


def test_the_row_has_the_runs_of_a_pre_trained_method(file: Path) -> None:
    plan = build_plan(study(theirs(file)))
    rows = of_row(plan, "theirs")
    assert rows
    assert rows == of_row(plan, "mae3d")
    for run_id in rows:
        mine, other = (plan.runs[run_id.replace("ROW", n)].config for n in ("theirs", "mae3d"))
        same = {"method", "pretrained"}
        assert mine.model_dump(exclude=same) == other.model_dump(exclude=same)
    adopted = plan.runs["pretrain/theirs"]
    assert (adopted.action, adopted.inputs) == ("adopt", ())


def test_tables_know_its_title_and_no_pre_training_of_it(file: Path) -> None:
    report = build_plan(study(theirs(file))).runs["tables/all"].config
    assert report.methods[-1] == "theirs"
    assert report.title_of("theirs") == report.series_title("theirs", "") == "Theirs"
    assert report.title_of("mae3d") == "MAE3D"
    assert "theirs" not in {run.method for run in report.pretrain_runs}
    assert "theirs" in report.methods_of("segmentation")


def test_its_content_decides_not_its_place(file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(file.read_bytes())
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"another")
    prints = [
        build_plan(study(theirs(path))).runs["pretrain/theirs"].fingerprint
        for path in (file, moved, other)
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("is_old", [True, False])
def test_an_old_file_that_did_not_change_is_read_once(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    now = Memory._now
    monkeypatch.setattr(Memory, "_now", lambda self: now(self) + is_old * 10**12)
    read: list[Path] = []
    monkeypatch.setattr(checksums, "sha256", lambda path: read.append(path) or sha256(path))

    def adopted() -> Any:
        return build_plan(study(theirs(file))).runs["pretrain/theirs"].config

    assert adopted() == adopted()
    assert len(read) == (1 if is_old else 2)
    file.write_bytes(b"changes")
    assert adopted().sha256 == sha256(file)


def test_the_demo_keeps_all_other_runs(file: Path) -> None:
    demo, mine = build_plan(validate(RAW, "demo")), build_plan(study(theirs(file)))
    same = [name for name in demo.runs if name not in ("scores/s0", "tables/all", "figures/all")]
    assert all(demo.runs[name].fingerprint == mine.runs[name].fingerprint for name in same)


def test_a_study_may_have_no_pre_training_at_all(file: Path) -> None:
    content = merge(
        RAW,
        {
            "pretrain": {"methods!": {}},
            "sequences": {"sources": []},
            "ablation": {"tasks": []},
            "beyond": {"token_order": []},
            "label_ratio": {"methods": ["theirs", "vit"], "tasks": ["nodule"]},
            "finetune": {"encoders": theirs(file), "scratch": ["unetr", "vit"]},
        },
    )
    plan = build_plan(validate(content, "mine.yaml"))
    assert {run.action for run in plan.runs.values() if run.stage == "pretrain"} == {"adopt"}
    assert plan.runs["tables/all"].config.methods == ("unetr", "vit", "theirs")
    assert not any(run.startswith("sequences/") for run in plan.runs)
    assert any(run.startswith("label_ratio/nodule/theirs/") for run in plan.runs)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"path": "nowhere/a.pt"}, ["theirs.path", "there is no file nowhere/a.pt"]),
        ({"format": "monai"}, ["theirs.heads", "monai do not show"]),
        ({"format": "published"}, ["theirs.heads", "published do not show"]),
        ({"format": "monai", "heads": 3}, ["theirs.heads", "encoder.heads", "4"]),
        ({"patch_size": [2, 2, 2]}, ["theirs.patch_size", "one geometry"]),
        ({"format": "monai", "heads": 4, "image_size": [9, 8, 8]}, ["image_size", "multiple"]),
        ({"exact": False}, ["theirs.exact", "only for the format monai"]),
        ({"format": "keras"}, ["theirs.format", "keras"]),
        ({"title": "AR (autoregressive)"}, ["theirs.title", "'AR (autoregressive)'", "distinct"]),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    file: Path, facts: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        study({"theirs": {"path": str(file), "title": "Theirs", **facts}})
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_name_of_a_method_is_taken(file: Path) -> None:
    with pytest.raises(ConfigError, match="name of a method of voxseq"):
        study({"dino": {"path": str(file), "title": "Another DINO"}})
