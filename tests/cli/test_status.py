"""The command that tells how far a study is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.calling import Call
from voxseq.base.files import write_json
from voxseq.base.locks import exclusive
from voxseq.config import load_config
from voxseq.engine.workspace import Workspace
from voxseq.plan import build_plan


def test_status_tells_how_far_a_study_is(workspace: Path, call: Call) -> None:
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    count = len(works.plan.runs)
    assert f"scale demo: 0 of {count} runs finished, {count} waiting" in call("status").out
    runs = {name: works.plan.runs[f"pretrain/{name}/s0"] for name in ("ours", "simclr", "dino")}
    under_way = {"doing": "training", "done": 40, "total": 1000, "loss": 0.5, "seconds_left": 90}
    write_json(works.state(runs["ours"]) / "progress.json", {"state": "running", **under_way})
    failed = {"state": "failed", "reason": "no room\n  next: make some"}
    write_json(works.state(runs["simclr"]) / "progress.json", failed)
    (works.state(runs["simclr"]) / "log.txt").touch()
    write_json(works.state(runs["dino"]) / "progress.json", {"state": "running"})
    with exclusive(works.lock(runs["ours"]), runs["ours"].id):
        out = call("status").out
        content = json.loads(call("status", "--json").out)
    counted = f"0 of {count} runs finished, 1 running, {count - 3} waiting, 1 stopped, 1 failed"
    assert counted in out
    assert "running  pretrain/ours/s0: training, 40 of 1000, loss 0.5, 90 s left" in out
    assert "failed   pretrain/simclr/s0: no room\n" in out
    log = f".voxseq/state/demo/pretrain/simclr/s0/{runs['simclr'].fingerprint}/log.txt"
    assert f"log: {log}" in out
    assert "stopped  pretrain/dino/s0: its process was killed" in out
    # Thirteen more trainings of the same length, as fast as the one that has told.
    assert "time left: more than 22 min, as runs took here; the time of download" in out
    by_id = {run["run"]: run for run in content["runs"]}
    assert by_id["pretrain/ours/s0"]["progress"]["done"] == 40
    assert by_id["pretrain/simclr/s0"]["log"] == log
    assert by_id["tables/all"]["state"] == "waiting"


@pytest.mark.parametrize("command", ["status", "where"])
def test_a_study_is_named_as_its_file(workspace: Path, call: Call, command: str) -> None:
    folder = workspace / "studies"
    folder.mkdir()
    (folder / "mine.yaml").write_text("scale: mine\nresults: results/mine\n")
    assert "mine" in call(command, "mine").out
    refused = call(command, "yours", status=2)
    assert "unknown study 'yours'" in refused.err
    assert "studies here: mine" in refused.err


def test_a_study_of_another_folder_is_refused(
    workspace: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_config(workspace / "params.yaml").model_dump(mode="json")
    write_json(workspace / "own.json", {**whole, "standalone": True})
    (workspace / "elsewhere").mkdir()
    monkeypatch.chdir(workspace / "elsewhere")
    assert "not a workspace" in call("status", "../own.json", status=2).err
    assert not list(Path().iterdir())
