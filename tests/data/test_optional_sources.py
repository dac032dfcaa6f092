"""Sources that are not in the data root are left out, from the download to the sampler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import sequence_store, trees
from voxseq.base.errors import DataError
from voxseq.base.files import read_json
from voxseq.config import load_config, read_yaml
from voxseq.config.datasets import DataConfig
from voxseq.data.verify.check import Usage, verify
from voxseq.data.verify.presence import optional_sources
from voxseq.engine.workspace import Workspace
from voxseq.plan import build_plan
from voxseq.plan.context import RunContext
from voxseq.plan.data import sequences_run
from voxseq.sequences import build
from voxseq.sequences.sampler import SequenceSampler
from voxseq.sequences.table import LEFT_OUT

OPTIONAL = ("brats23", "deeplesion")


def _built(root: Path, out: Path, needed: tuple[str, ...]) -> tuple[Path, dict[str, Path], Any]:
    """The sequence index of three sources, two of which are optional."""
    inputs = {}
    sources = (*needed, *OPTIONAL)
    for name in sources:
        changes = {"optional": True} if name in OPTIONAL else {}
        inputs[f"download/{name}"] = trees.run_download(root, out, name, **changes)
        inputs[f"preprocess/source/{name}"] = trees.run_preprocess(root, out, name)
    kinds = {"brats23": "contrast", "deeplesion": "semantic"}
    config = sequence_store.config(
        sources=tuple({"dataset": n, "kind": kinds.get(n, "spatial")} for n in sources),
        spatial={"crop_shape": (6, 6, 6), "weight": 2.0},
        contrast={"weight": 1.0},
        semantic={"weight": 1.0},
    )
    folder = out / "sequences/all"
    folder.mkdir(parents=True)
    settings = sequences_run(config)
    build.execute(RunContext("sequences/all", settings, folder, out / "state", inputs, root))
    return folder, inputs, config


def test_what_is_not_there_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    trees.msd(root, list("abc"))
    with caplog.at_level(logging.WARNING):
        index, inputs, config = _built(root, tmp_path, ("task09_spleen",))
    lines = [r.getMessage() for r in caplog.records]
    assert sum("left out of pre-training: BraTS" in line for line in lines) == 1
    assert "no contrast sequences: brats23 are not here" in lines
    left_out = read_json(index / LEFT_OUT)
    assert left_out == {"sources": ["brats23", "deeplesion"], "kinds": ["contrast", "semantic"]}
    stores = {n.rpartition("/")[2]: p for n, p in inputs.items() if n.startswith("preprocess/")}
    sampler = SequenceSampler(index, stores, config, ("spatial", "contrast", "semantic"), 0)
    assert sampler.kinds == ("spatial",)
    drawn = [sampler.raw(*sampler.choose(0, 4, slot)) for slot in range(4)]
    assert {sampler._names[raw.source] for raw in drawn} == {"task09_spleen"}
    with pytest.raises(DataError, match="no source of contrast sequences is here"):
        SequenceSampler(index, stores, config, ("contrast",), 0)


def test_what_is_there_is_used(tmp_path: Path) -> None:
    root = tmp_path / "data"
    trees.msd(root, list("abc"))
    # The images of the first are those of the spleens.
    trees.brats(root, ["BraTS-GLI-00000-000", "BraTS-GLI-00001-000"])
    index, _, _ = _built(root, tmp_path, ("task09_spleen",))
    assert read_json(index / LEFT_OUT) == {"sources": ["deeplesion"], "kinds": ["semantic"]}


def test_one_source_at_least_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="none of the sources of pre-training is here: brats23"):
        _built(tmp_path / "data", tmp_path, ())


def test_a_source_that_is_not_optional_is_still_missed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="is missing and was not fetched"):
        trees.run_download(tmp_path / "data", tmp_path, "brats23")


def test_a_damaged_optional_source_is_an_error(tmp_path: Path) -> None:
    stray = tmp_path / "data/brats/notes.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("the archive was not unpacked")
    with pytest.raises(DataError, match="no image found"):
        trees.run_download(tmp_path / "data", tmp_path, "brats23", optional=True)


def test_verify_warns_of_it(tmp_path: Path) -> None:
    trees.msd(tmp_path, list("abc"))
    data = DataConfig()
    names = ["task09_spleen", "brats23"]
    usage = Usage.of(names, data, {}, names, ["brats23"])
    found = [f for f in verify(names, tmp_path, usage).findings if f.dataset == "brats23"]
    assert [f.severity for f in found] == ["warning"]


def test_the_open_scale_needs_only_what_it_can_fetch(root: Path) -> None:
    config = load_config(root / "params.yaml", [read_yaml(root / "workflow/scales/open.yaml")])
    runs = build_plan(config).runs.values()
    downloads = [r.config for r in runs if r.stage == "download"]
    optional = {config.dataset for config in downloads if config.optional}
    assert optional == {"totalsegmentator", "dicom_ct", "brats23"}
    # A task's own data set is needed whatever the source says.
    changed = read_yaml(root / "workflow/scales/open.yaml")
    changed["sequences"]["sources!"][-2]["optional"] = True
    runs = build_plan(load_config(root / "params.yaml", [changed])).runs.values()
    assert optional == {
        r.config.dataset for r in runs if r.stage == "download" and r.config.optional
    }


def test_the_workflow_says_what_is_left_out_and_what_has_arrived(
    tmp_path: Path, root: Path
) -> None:
    config = load_config(root / "params.yaml", [read_yaml(root / "workflow/scales/open.yaml")])
    plan, data = build_plan(config), tmp_path / "data"
    workspace = Workspace(tmp_path, plan, data)
    run = plan.runs["download/brats23"]
    (data / "brats").mkdir(parents=True)

    def said() -> list[str]:
        found = workspace.folder(run) if workspace.is_finished(run) else None
        others = [(name, None) for name in ("dicom_ct", "totalsegmentator")]
        return list(optional_sources([("brats23", found), *others], data))

    lines = said()
    assert [line.split()[0] for line in lines] == ["brats23", "dicom_ct", "totalsegmentator"]
    assert all("unless it is fetched" in line for line in lines)
    job = next(job for job in plan.jobs.values() if job.action == "download" and run in job.runs)
    workspace.execute(job)
    assert any("brats23 is not in" in line for line in said())
    trees.brats(data, ["BraTS-GLI-00000-000"])
    arrived = [line for line in said() if "brats23" in line]
    assert len(arrived) == 1
    assert "data.release" in arrived[0]
