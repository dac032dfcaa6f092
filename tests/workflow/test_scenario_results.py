"""Scenarios 17 to 20: published files that are not what the present parameters name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.helpers.study import ARTEFACTS, COMMANDS, RESULTS, Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

Found = Callable[[int, str], None]
DRY = ("snakemake", "-n", "--", "reproduce_tables")
EMPTY = {
    "ablation!": {"tasks": [], "variants": {}},
    "label_ratio": {"tasks": []},
    "beyond!": {"token_order": [], "recipes": [], "frozen": [], "trivial": []},
}


@pytest.mark.parametrize("engine", COMMANDS)
def test_deleted_and_edited_results_are_published_anew(
    study: Study, engine: str, found: Found
) -> None:
    results, before = study.root / RESULTS, study.published()
    record = (study.root / "dvc.lock").read_bytes()

    shutil.rmtree(results)
    assert "missing" in study.voxseq("where")
    assert "missing" in study.voxseq("verify", "tables", fails=True)
    with study.computes([]):
        assert "published anew" in study.run(engine)
    assert study.published() == before

    (results / "tables/table1.md").write_text("<<<<<<< HEAD")
    (results / "metrics.json").unlink()
    (results / "figures/notes.png").write_text("somebody's own")
    assert "edited" in study.voxseq("where")
    with study.computes([]):
        study.run(engine)
    assert study.published() == before
    kept = study.root / ".voxseq/replaced/tiny"
    assert (kept / "figures/notes.png").read_text() == "somebody's own"
    study.assert_nothing_to_do()

    shutil.rmtree(results)
    study.voxseq("record")
    assert (study.root / "dvc.lock").read_bytes() == record

    # Artefacts are gone as well: they are made again.
    shutil.rmtree(results)
    shutil.rmtree(study.root / ARTEFACTS / "tables")
    assert "make_tables" in study.call(*DRY)
    with study.computes(["tables/all"]):
        study.run(engine)
    assert study.published() == before
    study.assert_nothing_to_do()
    found(17, f"{engine}: deleted, edited and surplus results published anew, 0 runs computed")


def test_a_clone_without_results_gets_them_from_pulled_artefacts(
    study: Study, tmp_path: Path, found: Found
) -> None:
    study.dvc("remote", "add", "--default", "store", str(tmp_path / "remote"))
    study.git("rm", "-r", "--quiet", "--cached", RESULTS)
    ignored = study.root / ".gitignore"
    ignored.write_text(ignored.read_text().replace(f"!/{RESULTS}/\n", ""))
    study.commit("results are not versioned")
    study.dvc("push")
    study.git("clone", "--quiet", str(study.root), str(tmp_path / "clone"))
    clone = Study(tmp_path / "clone")
    clone.dvc("pull")
    assert not (clone.root / RESULTS).exists()
    with clone.computes([]):
        assert "published anew" in clone.run("dvc")
    clone.assert_nothing_to_do()
    there, here = clone.published(), study.published()
    assert set(there) == set(here)
    assert {name for name in here if here[name] != there[name]} == {
        name for name in here if name.startswith("cost/")
    }
    assert b"Not available" in there["cost/index.html"]
    found(17, "a clone without results: published from pulled artefacts, costs not available")


def test_a_file_is_made_by_the_run_that_the_parameters_name(
    finished: Study, tmp_path: Path, found: Found
) -> None:
    clone = Study(tmp_path / "clone")
    finished.git("clone", "--quiet", str(finished.root), str(clone.root))
    clone.change("pretrain.steps", 3)
    before = clone.published()
    assert "not made with the present parameters" in clone.voxseq("where")
    for name in ("tables/table1.md", "figures/heatmap.png", "report/index.html", "metrics.json"):
        said = clone.call("snakemake", "-n", "--", f"{RESULTS}/{name}")
        assert "Nothing to be done" not in said, said[-3000:]
        assert "pretrain_method" in said
    assert clone.published() == before
    table = f"{RESULTS}/tables/table1.csv"
    clone.call("snakemake", "--cores", "2", "--", table)
    assert clone.published()["tables/table1.csv"] != before["tables/table1.csv"]
    assert "tables/all" in clone.computed()
    assert "Nothing to be done" in clone.call("snakemake", "-n", "--", table)
    assert "make_figures" in clone.call("snakemake", "-n", "--", f"{RESULTS}/figures/heatmap.png")
    found(18, "a file of a fresh clone with other parameters: made anew, never taken for them")


def test_a_second_run_elsewhere_leaves_the_same_record(
    fresh: Study, finished: Study, tmp_path: Path, found: Found
) -> None:
    other = fresh.copy(tmp_path / "another folder" / "study")
    other.extra["TZ"] = "Pacific/Chatham"
    other.run("snakemake")
    assert (other.root / "dvc.lock").read_bytes() == (finished.root / "dvc.lock").read_bytes()
    there, here = other.published(), finished.published()
    assert {name for name in here if here[name] != there[name]} <= {
        name for name in here if name.startswith("cost/")
    }
    found(19, "two fresh runs: the same dvc.lock to the byte, costs alone differ")


def test_a_phase_of_a_study_with_empty_stages(fresh: Study, tmp_path: Path, found: Found) -> None:
    study = fresh.copy(tmp_path / "study")
    study.lay(EMPTY)
    for phase, recorded in (
        ("download", {"download"}),
        ("preprocess", {"download", "preprocess"}),
        ("data", {"download", "preprocess", "sequences", "ablation"}),
    ):
        study.call("snakemake", "--cores", "1", "--", phase)
        content = yaml.safe_load((study.root / "dvc.lock").read_text())
        assert set(content["stages"]) == recorded
    assert "Nothing to be done" in study.call("snakemake", "-n", "--", "data")
    found(20, "phases of a study with empty stages: recorded when their inputs are there")
