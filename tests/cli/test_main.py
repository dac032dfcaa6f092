"""The command line: output, refusals and status of every command."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import yaml

from tests.helpers import ROOT
from tests.helpers.calling import Call
from voxseq import __version__
from voxseq.base import gpus
from voxseq.base.locks import exclusive
from voxseq.cli import main as cli
from voxseq.config import load_config, read_yaml
from voxseq.config.registry import pretrained
from voxseq.engine.workspace import Workspace
from voxseq.plan import build_plan

SMOKE = ROOT / "workflow/scales/smoke.yaml"


def test_the_module_is_a_program(workspace: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for words, status in ((["--version"], 0), (["plan", "--params", "no.yaml"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "voxseq", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status
        assert "Traceback" not in done.stdout + done.stderr
    assert "no.yaml" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["-h"],
        *(
            [name, "--help"]
            for name in ("plan", "job", "run", "status", "prune", "record", "where", "close")
        ),
        ["forget", "--help"],
        *(["config", name, "--help"] for name in ("show", "check", "use")),
        *(["code", name, "--help"] for name in ("check", "keep", "bump")),
    ],
    ids=" ".join,
)
def test_help_is_there_for_every_command(call: Call, words: list[str]) -> None:
    assert "Usage: " in call(*words).out
    assert __version__ in call("--version").out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["plan", "--params", "no.yaml"], ["no.yaml", "cannot be read"]),
        (["plan", "--overlay", "no.yaml"], ["no.yaml"]),
        (["plan", "--stage", "training"], ["training", "finetune"]),
        (["prune", "../../elsewhere"], ["../../elsewhere", "finetune"]),
        (["close", "training", "demo", "results"], ["training", "finetune"]),
        (["close", "pretrain", "demo", "results"], ["7 of the 7 jobs", "dvc repro"]),
        (["close", "pretrain", "smoke", "results"], ["scale smoke", "scale demo"]),
        (["forget", "pretrain/nobody"], ["pretrain/nobody", "voxseq plan"]),
        (["forget", "pretrain/ours"], ["nobody to ask", "--yes"]),
        (["job", "finetune", "nobody"], ["nobody", "ours.s0.part0"]),
        (["job", "training", "x"], ["training", "none"]),
        (
            ["job", "finetune", "ours.s0.part0", "--fingerprint", "0" * 16],
            ["0" * 16, "start it again"],
        ),
        (["code", "bump", "nothing"], ["nothing", "actions"]),
        (["config", "use", "no.yaml"], ["no.yaml"]),
        (["config", "check", "--overlay", "bad.yaml"], ["pretrain.steps", "-1", "greater than 0"]),
        (["plan", "--params", "bad.yaml"], ["Field required"]),
    ],
    ids=lambda w: " ".join(w)[:40],
)
def test_mistakes_end_in_a_message_and_status_2(
    workspace: Path, call: Call, words: list[str], named: list[str]
) -> None:
    (workspace / "bad.yaml").write_text("pretrain: {steps: -1}\n")
    before = sorted(workspace.rglob("*"))
    printed = call(*words, status=2)
    assert printed.err.startswith("error: ")
    assert "next: " in printed.err
    assert all(word in printed.err for word in named)
    assert sorted(workspace.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [["nothing"], ["plan", "--nothing"], ["job"], ["run"], ["config"]]
)
def test_wrong_words_end_in_usage(workspace: Path, call: Call, words: list[str]) -> None:
    printed = call(*words, status=2)
    assert "Usage" in printed.err + printed.out


def test_a_request_to_stop_has_the_status_of_a_retry(
    monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    from voxseq.training.loop import Interrupted

    def stop(**_: object) -> None:
        raise Interrupted("stopped at step 7")

    monkeypatch.setattr(cli, "cli", stop)
    # The process would be gone at once, and this one with it.
    monkeypatch.setattr(os, "_exit", sys.exit)
    assert "stopped at step 7" in call(status=cli.RETRY).err
    assert cli.RETRY == 75


def test_plan_prints_every_run(workspace: Path, call: Call) -> None:
    out = call("plan").out
    plan = build_plan(load_config(workspace / "params.yaml"))
    for run in plan.runs.values():
        line = next(row for row in out.splitlines() if row.startswith(f"{run.id} "))
        assert run.fingerprint in line
        assert line.rstrip().endswith("to do")
    assert f"{len(plan.runs)} runs in {len(plan.jobs)} jobs, 0 finished, scale demo" in out


def test_plan_of_a_study(workspace: Path, call: Call) -> None:
    (workspace / "studies").mkdir()
    shutil.copy(ROOT / "workflow/scales/quick.yaml", workspace / "studies/mine.yaml")
    assert call("plan", "mine").out == call("plan", "--overlay", "mine").out


def test_plan_of_one_stage(workspace: Path, call: Call) -> None:
    out = call("plan", "--stage", "pretrain").out
    assert "pretrain/ours/s0" in out
    assert "pretrain/simclr/s0" in out
    assert "finetune/" not in out
    assert [r["id"] for r in json.loads(call("plan", "--stage", "pretrain", "--json").out)] == [
        f"pretrain/{name}/s0" for name in pretrained()
    ]


def test_plan_as_json_of_another_configuration(workspace: Path, call: Call) -> None:
    (workspace / "mine.yaml").write_text(call("config", "show", "--overlay", str(SMOKE)).out)
    given = json.loads(call("plan", "--json", "--params", "mine.yaml").out)
    expected = build_plan(load_config(ROOT / "params.yaml", [read_yaml(SMOKE)]))
    assert [r["id"] for r in given] == list(expected.runs)
    for record in given:
        run = expected.runs[record["id"]]
        assert record["fingerprint"] == run.fingerprint
        assert record["config"] == run.settings
        assert tuple(record["inputs"]) == run.inputs
    assert {
        r["id"]: r for r in json.loads(call("plan", "--json", "--overlay", str(SMOKE)).out)
    } == {r["id"]: r for r in given}


def test_config_check(workspace: Path, call: Call) -> None:
    assert "valid: scale smoke" in call("config", "check", "--overlay", str(SMOKE)).out
    assert [p.name for p in workspace.iterdir()] == ["params.yaml"]


def test_config_check_names_every_file(workspace: Path, call: Call) -> None:
    (workspace / "mine.yaml").write_text("report: {dpi: 90}\n")
    words = ("--overlay", str(SMOKE), "--overlay", "mine.yaml")
    expected = f"params.yaml with {SMOKE}, mine.yaml is valid: scale smoke"
    assert expected in call("config", "check", *words).out
    (workspace / "mine.yaml").write_text("report:\n  dpi: 9\n")
    assert "report.dpi: " in (said := call("plan", *words, status=2).err)
    assert "[mine.yaml, line 2]" in said


def test_config_use_writes_the_overlay_into_params(workspace: Path, call: Call) -> None:
    linked = workspace / "linked.yaml"
    linked.hardlink_to(workspace / "params.yaml")
    before = linked.read_text()
    assert "scale smoke" in call("config", "use", str(SMOKE)).out
    merged = load_config(ROOT / "params.yaml", [read_yaml(SMOKE)])
    assert load_config(workspace / "params.yaml") == merged
    assert build_plan(load_config(workspace / "params.yaml")) == build_plan(merged)
    assert linked.read_text() == before
    call("config", "use", str(SMOKE))
    assert load_config(workspace / "params.yaml") == merged


def test_config_use_leaves_params_alone_when_the_overlay_is_wrong(
    workspace: Path, call: Call
) -> None:
    before = (workspace / "params.yaml").read_bytes()
    (workspace / "bad.yaml").write_text("encoder: {width: 100}\n")
    call("config", "use", "bad.yaml", status=2)
    assert (workspace / "params.yaml").read_bytes() == before
    assert sorted(p.name for p in workspace.iterdir()) == ["bad.yaml", "params.yaml"]


def test_where_tells_what_is_finished(workspace: Path, call: Call) -> None:
    plan = build_plan(load_config(workspace / "params.yaml"))
    marker = workspace / plan.marker(next(iter(plan.jobs.values())))
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    out = call("where").out
    assert "results/tables" in out
    assert f"scale demo: 1 of {len(plan.jobs)} jobs finished" in out
    assert "set aside" not in out


def test_where_tells_how_many_images_could_not_be_used(workspace: Path, call: Call) -> None:
    places = {"download/la/s0": 1, "preprocess/task/la/s0": 2, "download/nodule/s0": 0}
    for place, rows in places.items():
        path = workspace / f"artifacts/demo/{place}/set_aside.csv"
        path.parent.mkdir(parents=True)
        path.write_text("volume_id,path,reason\n" + 'a,a.nii.gz,"NaN, and\nmore"\n' * rows)
    out = call("where").out
    lists = [line for line in out.splitlines() if "set aside" in line]
    assert lists == [
        "1 image set aside, with reasons: artifacts/demo/download/la/s0/set_aside.csv",
        "2 images set aside, with reasons: artifacts/demo/preprocess/task/la/s0/set_aside.csv",
    ]


def test_prune_names_what_it_moves(workspace: Path, call: Call) -> None:
    folder = workspace / "artifacts/demo/finetune/la/gone/s0"
    folder.mkdir(parents=True)
    (folder / "run-0123456789abcdef.json").write_text('{"files": {}}')
    assert "la/gone/s0" in call("prune", "finetune").out
    assert not folder.exists()
    assert (workspace / ".voxseq/attic/demo/0123456789abcdef").is_dir()


def test_run_does_a_job_and_its_marker_appears(
    workspace: Path, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call("config", "use", str(SMOKE))
    alone = workspace / "alone.yaml"
    alone.write_text("data: {phantoms_per_job: 1}")
    call("config", "use", str(alone))
    plan = build_plan(load_config(workspace / "params.yaml"))
    job = plan.jobs["download", "task07_pancreas.s0"]
    words = ("job", "download", job.name, "--fingerprint", job.fingerprint)
    call(*words)
    assert (workspace / plan.marker(job)).exists()
    error = call("job", "preprocess", "task.la.s0", status=2).err
    assert "download/la/s0 is needed" in error
    assert "does the stage download once more" in error
    run = job.runs[0]
    record = workspace / ".voxseq/records/smoke" / run.id / run.fingerprint
    assert run.fingerprint in (record / "log.txt").read_text()
    call(*words, "--verify")
    table = next((workspace / "artifacts/smoke" / run.id).glob("*.csv"))
    table.write_bytes(table.read_bytes()[::-1])
    assert f"{table.name} does not have its" in call(*words, "--verify", status=2).err


@pytest.mark.parametrize(
    ("words", "asked", "is_leased"),
    [
        (("pretrain", "ours.s0"), "auto", True),
        (("pretrain", "ours.s0"), "cuda", True),
        (("pretrain", "ours.s0"), "cpu", False),
        (("sequences", "all.s0"), "auto", False),
    ],
)
def test_a_training_leases_a_gpu_before_it_begins(
    workspace: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    asked: str,
    is_leased: bool,
) -> None:
    done: list[str] = []

    def lease(what: str) -> list[IO[str]]:
        done.append(what)
        return []

    monkeypatch.setattr(gpus, "lease_gpus", lease)
    monkeypatch.setattr(Workspace, "execute", lambda *_: done.append("work"))
    overlay = workspace / "overlay.yaml"
    overlay.write_text(f"execution: {{device: {asked}}}")
    call("job", *words, "--overlay", str(overlay))
    assert done == ["/".join(words)] * is_leased + ["work"]


def test_code_versions_are_kept_bumped_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    from voxseq.base.files import read_json, write_json
    from voxseq.plan import code_versions as fingerprint

    path = tmp_path / "code.json"
    monkeypatch.setattr(fingerprint, "VERSIONS", path)
    call("code", "keep", "all")
    call("code", "check")
    record = read_json(path)
    assert {entry["version"] for entry in record.values()} == {1}
    write_json(path, {**record, "download": {"version": 4, "digest": "0" * 16}})
    assert "download" in call("code", "check", status=2).err
    call("code", "keep", "download")
    assert read_json(path)["download"]["version"] == 4
    call("code", "bump", "download", "finetune")
    assert read_json(path)["download"]["version"] == 5
    assert read_json(path)["finetune"]["version"] == 2
    call("code", "check")


def test_plan_tells_what_is_running(workspace: Path, call: Call) -> None:
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    ours, simclr = (works.plan.runs[f"pretrain/{name}/s0"] for name in ("ours", "simclr"))
    works.state(ours).mkdir(parents=True)
    with exclusive(works.lock(ours), ours.id), exclusive(works.lock(simclr), simclr.id):
        out = call("plan", "--stage", "pretrain").out
    states = {row.split()[0]: row for row in out.splitlines()}
    assert states["pretrain/ours/s0"].rstrip().endswith("running")
    # Another configuration of that run is at work.
    assert states["pretrain/simclr/s0"].rstrip().endswith("to do")
    assert states["7"].endswith("0 finished, 1 running, scale demo")
    assert "running" not in call("plan", "--stage", "pretrain").out


def test_a_stage_of_dvc_ends_and_what_is_not_named_moves(workspace: Path, call: Call) -> None:
    params = workspace / "params.yaml"
    content = {**read_yaml(params), "pretrain": {"methods": {}}, "ablation": {}, "beyond": {}}
    params.write_text(yaml.safe_dump(content))
    folder = workspace / "artifacts/demo/pretrain/gone"
    folder.mkdir(parents=True)
    (folder / "run-0123456789abcdef.json").write_text('{"files": {}}')
    assert "gone" in call("close", "pretrain", "demo", "results").out
    assert not folder.exists()


def test_every_stage_of_dvc_ends_so(root: Path) -> None:
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        assert stage["cmd"].endswith(f"-m voxseq close {name} ${{scale}} ${{results}}")


def test_runs_are_forgotten(workspace: Path, call: Call) -> None:
    works = Workspace(workspace, build_plan(load_config(workspace / "params.yaml")))
    checkpoint = works.state(works.plan.runs["pretrain/ours/s0"]) / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("x")
    assert call("forget", "--yes", "--only", "pretrain/ours").out.splitlines()[:2] == [
        "pretrain/ours/s0  not finished",
        "1 runs of scale demo: 1 of pretrain",
    ]
    assert not checkpoint.exists()
    assert len(list((workspace / ".voxseq/forgotten/demo").rglob("checkpoint.pt"))) == 1
    out = call("forget", "--yes", "pretrain/ours").out
    assert "finetune/la/ours/s0" in out
    assert "finetune/la/simclr/s0" not in out
    assert "there was nothing of them" in out


def test_another_checkouts_code_is_refused(workspace: Path, call: Call) -> None:
    (workspace / "src/voxseq").mkdir(parents=True)
    (workspace / "src/voxseq/__init__.py").write_text("")
    (workspace / "artifacts/demo/finetune/gone").mkdir(parents=True)
    for words in (["plan"], ["prune"], ["code", "bump", "data"], ["where"], ["data", "list"]):
        error = call(*words, status=2).err
        assert str(workspace / "src/voxseq") in error
        assert str(ROOT / "src/voxseq") in error
    assert (workspace / "artifacts/demo/finetune/gone").is_dir()
    call("--version")


OUT = ("> /dev/full", ">&-", "| true")
ERR = ("", "2> /dev/full", "2>&-")


def said(code: str, streams: str) -> subprocess.CompletedProcess[str]:
    """Run Python with its output led elsewhere by the shell."""
    line = f'"$0" -c "$1" {streams}; exit ${{PIPESTATUS[0]}}'
    words = ["bash", "-c", line, sys.executable, code]
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(words, env=buffered, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("streams", [f"{err} {out}" for out in OUT for err in ERR])
@pytest.mark.parametrize(
    ("raised", "status"), [("Interrupted('a signal')", 75), ("VoxseqError('failed')", 2)]
)
def test_the_status_is_right_where_nothing_can_be_said(
    raised: str, status: int, streams: str
) -> None:
    """The workflow acts on the status of a job, and the disk with the job's log may be full."""
    done = said(
        "from voxseq.cli import main as cli\n"
        "from voxseq.base.errors import Interrupted, VoxseqError\n"
        f"def broken(**_):\n    print('begun')\n    raise {raised}\n"
        "cli.cli = broken\ncli.main()\n",
        streams,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("streams", "status"), [("> /dev/full", 2), ("| true", 1), (">&-", 0)])
def test_output_that_nobody_takes_is_no_traceback(streams: str, status: int) -> None:
    done = said(
        "from voxseq.cli import main as cli\ndef long(**_):\n    print('x' * 1_000_000)\n"
        "cli.cli = long\ncli.main()\n",
        streams,
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert ("the output: No space left" in done.stderr) == (status == 2)
