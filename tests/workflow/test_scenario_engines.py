"""Scenarios 1 to 11: what one engine does is done for the other, whatever happens to the study."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.killing import Killer, Tally
from tests.helpers.study import COMMANDS, Found, Study

pytestmark = pytest.mark.slow


def test_snakemake_runs_and_dvc_is_clean(finished: Study, found: Found) -> None:
    finished.assert_nothing_to_do()
    finished.assert_whole()
    done = finished.computed()
    assert len(done) == len(set(done)) == len(finished.runs())
    found(1, f"Snakemake did {len(done)} runs; `dvc status` is clean")


def test_dvc_runs_and_snakemake_has_nothing_to_do(
    fresh: Study, finished: Study, tmp_path: Path, found: Found
) -> None:
    study = fresh.copy(tmp_path / "study")
    study.run("dvc")
    study.assert_nothing_to_do()
    assert study.runs() == finished.runs()
    assert study.tables() == finished.tables()
    assert study.record() == finished.record()
    found(2, f"DVC did {len(study.computed())} runs; Snakemake has nothing to do; equal results")


TASK = ("finetune.tasks.task06_lung.steps", 2, 3)
METHOD = ("pretrain.methods.mae3d.mask_ratio", None, 0.5)
#: What follows from each change, and nothing else.
TABLES = ["scores/s0", "tables/all"]
OF_TASK = [*(f"finetune/task06_lung/{m}/s0" for m in ("mae3d", "ours", "unetr")), *TABLES]
OF_METHOD = ["pretrain/mae3d/s0", *(f"finetune/{t}/mae3d/s0" for t in ("nodule", "task06_lung"))]


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_change_reaches_what_follows_from_it_and_is_taken_back(
    study: Study, engine: str, found: Found
) -> None:
    began = study.state()
    for (key, _, value), expected in ((TASK, OF_TASK), (METHOD, [*OF_METHOD, *TABLES])):
        study.change(key, value)
        with study.computes([*expected, "figures/all"]):
            study.run(engine)
        study.assert_nothing_to_do()
    went = study.state()
    study.commit("changed")
    assert went[1] != began[1]
    found(
        3,
        f"{engine}: one task's steps → {len(OF_TASK) + 1} runs, one method's pre-training → "
        f"{len(OF_METHOD) + 2} runs; the other engine agrees each time",
    )

    for which, state in ((1, began), (2, went)):
        for change in (TASK, METHOD):
            study.change(change[0], change[which])
        with study.computes([]):
            study.run(engine)
        assert study.state() == state
        study.assert_nothing_to_do()
    found(4, f"{engine}: back and forth again, 0 runs computed, results restored")

    study.git("checkout", "--quiet", "--force", "main")
    for commit, state in (("main~1", began), ("main", went)):
        study.git("checkout", "--quiet", commit)
        study.dvc("checkout")
        with study.computes([]):
            study.assert_nothing_to_do()
            study.run(engine)
        assert study.state() == state
    found(5, f"{engine}: an older commit and forward again, nothing to do in either engine")


KEYS = {
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """An S3 bucket served by this process: its address and that of the server."""
    server_of = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = pytest.importorskip("boto3")
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="study")
        yield "s3://study/cache", address
    finally:
        server.stop()


def clone_has_nothing_to_do(study: Study, target: Path) -> None:
    """Clone, pull; neither engine wants to do anything."""
    clone = study.clone(target)
    assert not (target / "artifacts").exists()
    clone.dvc("pull")
    assert not (target / ".snakemake").exists()
    clone.assert_nothing_to_do()
    clone.run("dvc")
    clone.run("snakemake")
    assert clone.computed() == []
    assert clone.state() == study.state()


def test_clone_from_a_folder(study: Study, tmp_path: Path, found: Found) -> None:
    study.push(str(tmp_path / "remote"))
    clone_has_nothing_to_do(study, tmp_path / "clone")
    found(6, "clone and `dvc pull` from a folder: nothing to do in either engine")


def test_clone_from_s3(study: Study, tmp_path: Path, bucket: tuple[str, str], found: Found) -> None:
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    study.extra.update(KEYS)
    study.remote["endpointurl"] = bucket[1]
    study.push(bucket[0])
    clone_has_nothing_to_do(study, tmp_path / "clone")
    found(6, "clone and `dvc pull` from S3: nothing to do in either engine")


OTHER = {"snakemake": "dvc", "dvc": "snakemake"}


def complete_cells(tables: dict[str, bytes]) -> set[tuple[str, ...]]:
    """Cells of all tables that have a score: table, row, column, share of the labels."""
    return {
        (name, row["row"], row["column"], row.get("label_ratio", ""))
        for name, content in tables.items()
        if name.endswith(".csv")
        for row in csv.DictReader(io.StringIO(content.decode()))
        if row.get("status") == "complete"
    }


@pytest.mark.parametrize("engine", COMMANDS)
def test_a_method_is_removed_and_put_back(study: Study, engine: str, found: Found) -> None:
    began = study.state()
    places = {path: (study.root / "artifacts/tiny" / path).stat().st_ino for path in began[0]}
    settings = study.params()["pretrain"]["methods"]["mae3d"]
    assert any("mae3d" in path for path in study.versioned("finetune"))

    study.change("pretrain.methods.mae3d", None)
    with study.computes(["tables/all", "figures/all"]):
        study.run(engine)
    study.assert_nothing_to_do()
    left = study.runs()
    gone = {path for path in began[0] if "mae3d" in path}
    report = {path for path in began[0] if path.startswith(("tables/", "figures/"))}
    assert len(gone) == 3
    assert set(began[0]) - set(left) == gone | report
    for stage in ("pretrain", "finetune"):
        assert not any("mae3d" in path for path in study.versioned(stage))
    for path in set(began[0]) - gone - report:
        assert (study.root / "artifacts/tiny" / path).stat().st_ino == places[path]
    cells = [complete_cells(tables) for tables in (began[1], study.tables())]
    # Tables keep the paper's rows; those of the method are missing now, all others stay.
    assert cells[1] == {cell for cell in cells[0] if "MAE3D" not in cell}
    assert len(cells[1]) < len(cells[0])

    methods = {**study.params()["pretrain"]["methods"], "mae3d": settings}
    study.change("pretrain.methods", methods)
    with study.computes([]):
        study.run(OTHER[engine])
    assert study.state() == began
    study.assert_nothing_to_do()
    found(
        11,
        f"{engine} without a method: from {len(cells[0])} to {len(cells[1])} scores in the tables, "
        f"{len(gone)} runs no longer versioned; {OTHER[engine]} with it again: 0 runs computed",
    )


TRAINED = ("ablation/finetune/", "finetune/", "label_ratio/")


def append(study: Study, name: str, text: str) -> None:
    path = study.root / "src/voxseq" / name
    path.write_text(path.read_text() + text)


def test_edits_of_code(study: Study, found: Found) -> None:
    append(study, "evaluation/dice.py", "\n# A remark.\n")
    append(study, "pretrain/base.py", "\n# A remark.\n")
    study.voxseq("code", "check")
    study.assert_nothing_to_do()

    append(study, "pretrain/base.py", "\n_SAME_RESULTS = True\n")
    assert "pretrain" in study.voxseq("code", "check", fails=True)
    study.voxseq("code", "keep", "pretrain")
    study.voxseq("code", "check")
    study.assert_nothing_to_do()

    append(study, "finetune/run.py", "\n_OTHER_RESULTS = True\n")
    assert "finetune" in study.voxseq("code", "check", fails=True)
    study.assert_nothing_to_do()
    study.voxseq("code", "bump", "finetune")
    study.voxseq("code", "check")
    expected = [run for run in study.computed() if run.startswith(TRAINED)]
    assert len(expected) == 7
    with study.computes([*expected, *TABLES, "figures/all"]):
        study.run("snakemake")
    study.assert_nothing_to_do()
    found(
        8,
        "remarks and a kept edit: nothing to do; an edit of unknown effect: `voxseq code check` "
        f"fails; a bumped action: {len(expected) + 2} runs that use it",
    )


def test_continuous_integration_asks_whether_results_change(root: Path) -> None:
    does = subprocess.check_output(["make", "--dry-run", "lint"], cwd=root, text=True)
    assert "voxseq code check" in does
    assert re.search(r"^targets=.*\blint\b", (root / ".ci/run").read_text(), re.MULTILINE)


KEY = "finetune.tasks.task06_lung.steps"
QUEUED = {"longer": 3, "longest": 4}
SCORE = "metrics.json"


def test_experiments(study: Study, found: Found) -> None:
    began = study.state(), study.params()
    for name, steps in QUEUED.items():
        study.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"{KEY}={steps}")
    study.dvc("exp", "run", "--run-all", "--jobs", "1")
    assert (study.state(), study.params()) == began
    study.assert_nothing_to_do()
    assert study.git("status", "--porcelain", "--", "params.yaml", "results", "dvc.lock") == ""

    of_task = [f"finetune/task06_lung/{m}/s0" for m in ("mae3d", "ours", "unetr")]
    with study.computes([*of_task, *TABLES, "figures/all"]):
        study.dvc("exp", "run", "--name", "shorter", "--set-param", f"{KEY}=1")
    study.assert_nothing_to_do()
    study.git("checkout", "--quiet", "--", "params.yaml", "dvc.lock", "results")
    study.dvc("checkout")
    assert (study.state(), study.params()) == began
    study.assert_nothing_to_do()

    rows = list(csv.DictReader(io.StringIO(study.dvc("exp", "show", "--csv", "--no-pager"))))
    shown = {row["Experiment"]: row for row in rows}
    wanted = {**QUEUED, "shorter": 1}
    assert {name: int(shown[name][KEY]) for name in wanted} == wanted
    scores = [key for key in rows[0] if key.endswith(("dice", "auc", "mean")) or "task06" in key]
    assert scores, list(rows[0])
    different = {tuple(shown[name][key] for key in scores) for name in wanted}
    assert len(different) == len(wanted)
    found(9, f"{len(wanted)} experiments, two of them queued: own results, workspace as it was")


def test_scores_are_metrics_of_dvc(finished: Study, root: Path) -> None:
    assert (finished.root / "results/tiny" / SCORE).is_file()
    assert "metrics.json" in (root / "dvc.yaml").read_text()


LINKS = ("hardlink", "symlink", "reflink", "copy")


def can_clone(folder: Path) -> bool:
    """Whether the file system shares the content of copies."""
    (folder / "probe").write_text("x")
    words = ["cp", "--reflink=always", str(folder / "probe"), str(folder / "probe2")]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def assert_cache_is_whole(study: Study) -> int:
    """Every file of the cache has the content that its name says; returns how many there are."""
    paths = [p for p in (study.root / ".dvc/cache/files/md5").glob("*/*") if p.is_file()]
    for path in paths:
        name = path.parent.name + path.name.removesuffix(".dir")
        assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == name, path
    return len(paths)


@pytest.mark.parametrize("link", LINKS)
def test_links_to_the_cache(study: Study, tmp_path: Path, link: str, found: Found) -> None:
    if link == "reflink" and not can_clone(tmp_path):
        found(10, "reflink: not tried, this file system has none")
        pytest.skip("the file system has no reflinks")
    began = study.state()
    study.dvc("config", "cache.type", link)
    study.dvc("checkout", "--relink")
    linked = study.root / "artifacts/tiny/sequences/all/s0/config.json"
    assert linked.is_symlink() == (link == "symlink")
    assert (linked.stat().st_nlink > 1) == (link == "hardlink")
    study.assert_nothing_to_do()
    study.push(str(tmp_path / "remote"), "another kind of link")

    # New results are put where links are, and the earlier ones come back.
    study.change("report.max_curve_points", 30)
    with study.computes(["tables/all", "figures/all"]):
        study.run("snakemake")
    study.assert_nothing_to_do()
    assert_cache_is_whole(study)
    study.change("report.max_curve_points", 20)
    with study.computes([]):
        study.run("dvc")
    assert study.state() == began
    study.assert_nothing_to_do()

    before = assert_cache_is_whole(study)
    study.dvc("gc", "--workspace", "--force")
    after = assert_cache_is_whole(study)
    assert after < before
    study.assert_nothing_to_do()

    moved = Study(tmp_path / "moved folder" / "study", study.extra)
    moved.root.parent.mkdir()
    study.root.rename(moved.root)
    if link == "symlink":
        said = moved.call("snakemake", "-n", "--", "reproduce_tables", fails=True)
        assert "dvc checkout" in said
        moved.dvc("checkout")
    moved.assert_nothing_to_do()
    moved.assert_whole()
    # What garbage collection removed is in the remote or is computed again, never taken for there.
    moved.change("report.max_curve_points", 30)
    moved.run("snakemake")
    moved.assert_nothing_to_do()
    moved.assert_whole()
    assert_cache_is_whole(moved)
    found(10, f"{link}: results changed, restored, collected and moved; {before} cache files whole")


#: Number of kills; `make test-faults` asks for twenty.
KILLS = int(os.environ.get("VOXSEQ_KILLS", "4"))


def test_kills_at_random_moments(
    fresh: Study, finished: Study, tmp_path: Path, found: Found
) -> None:
    rng, tally = random.Random(7), Tally()
    rounds = runs = repeated = 0
    while tally.total < KILLS:
        rounds += 1
        study = fresh.copy(tmp_path / f"round{rounds}" / "study")
        killer = Killer(study, rng, tally)
        try:
            killer.until_finished(KILLS)
        finally:
            killer.stop()
        study.assert_nothing_to_do()
        study.assert_whole()
        times = Counter((line["run"], line["fingerprint"]) for line in study.history())
        runs += len(times)
        repeated += sum(times.values()) - len(times)
        assert study.runs() == finished.runs()
        assert study.tables() == finished.tables()
    assert repeated == 0
    kinds = ", ".join(f"{kind} {n}" for kind, n in tally.kills.items() if n)
    found(
        7,
        f"{tally.total} kills ({kinds}) in {tally.calls} calls and {rounds} studies, {runs} runs, "
        f"{repeated} repeated, tables identical; a second workflow said so {tally.refused} times, "
        f"dvc.lock was cut short {tally.torn} times",
    )
