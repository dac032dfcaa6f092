"""The command line: what it prints, what it refuses, and with which status."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT
from voxseq import __version__
from voxseq.cli import main as cli
from voxseq.config import load_config, read_yaml
from voxseq.config.registry import pretrained
from voxseq.plan import build_plan

SMOKE = ROOT / "workflow/scales/smoke.yaml"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the demo's configuration, as the current one."""
    folder = tmp_path / "a study"
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Call the entry point with these words; returns the exit status."""
    monkeypatch.setattr(sys, "argv", ["voxseq", *words])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


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
        *([name, "--help"] for name in ("plan", "run", "prune", "record", "where", "close")),
        ["forget", "--help"],
        *(["config", name, "--help"] for name in ("show", "check", "use")),
        *(["code", name, "--help"] for name in ("check", "keep", "bump")),
    ],
    ids=" ".join,
)
def test_help_is_there_for_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert call(monkeypatch, *words) == 0
    assert "Usage: " in capsys.readouterr().out


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--version") == 0
    assert __version__ in capsys.readouterr().out


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
        (["run", "finetune", "nobody"], ["nobody", "ours.part0"]),
        (["run", "training", "x"], ["training", "none"]),
        (
            ["run", "finetune", "ours.part0", "--fingerprint", "0" * 16],
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
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    named: list[str],
) -> None:
    (workspace / "bad.yaml").write_text("pretrain: {steps: -1}\n")
    before = sorted(workspace.rglob("*"))
    assert call(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert "next: " in printed.err
    assert all(word in printed.err for word in named)
    assert sorted(workspace.rglob("*")) == before


@pytest.mark.parametrize("words", [["nothing"], ["plan", "--nothing"], ["run"], ["config"]])
def test_wrong_words_end_in_usage(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    assert call(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.err + printed.out


def test_a_request_to_stop_has_the_status_of_a_retry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxseq.training.loop import Interrupted

    def stop(**_: object) -> None:
        raise Interrupted("stopped at step 7")

    monkeypatch.setattr(cli, "cli", stop)
    # The process would be gone at once, and this one with it.
    monkeypatch.setattr(os, "_exit", sys.exit)
    assert call(monkeypatch) == cli.RETRY == 75
    assert "stopped at step 7" in capsys.readouterr().err


def test_plan_prints_every_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan") == 0
    out = capsys.readouterr().out
    plan = build_plan(load_config(workspace / "params.yaml"))
    for run in plan.runs.values():
        line = next(row for row in out.splitlines() if row.startswith(f"{run.id} "))
        assert run.fingerprint in line
        assert line.rstrip().endswith("to do")
    assert f"{len(plan.runs)} runs in {len(plan.jobs)} jobs, 0 finished, scale demo" in out


def test_plan_of_one_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "plan", "--stage", "pretrain") == 0
    out = capsys.readouterr().out
    assert "pretrain/ours" in out
    assert "pretrain/simclr" in out
    assert "finetune/" not in out
    assert call(monkeypatch, "plan", "--stage", "pretrain", "--json") == 0
    assert [r["id"] for r in json.loads(capsys.readouterr().out)] == [
        f"pretrain/{name}" for name in pretrained()
    ]


def test_plan_as_json_of_another_configuration(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "config", "show", "--overlay", str(SMOKE)) == 0
    (workspace / "mine.yaml").write_text(capsys.readouterr().out)
    assert call(monkeypatch, "plan", "--json", "--params", "mine.yaml") == 0
    given = json.loads(capsys.readouterr().out)
    expected = build_plan(load_config(ROOT / "params.yaml", [read_yaml(SMOKE)]))
    assert [r["id"] for r in given] == list(expected.runs)
    for record in given:
        run = expected.runs[record["id"]]
        assert record["fingerprint"] == run.fingerprint
        assert record["config"] == run.settings
        assert tuple(record["inputs"]) == run.inputs
    assert call(monkeypatch, "plan", "--json", "--overlay", str(SMOKE)) == 0
    assert {r["id"]: r for r in json.loads(capsys.readouterr().out)} == {r["id"]: r for r in given}


@pytest.mark.parametrize("overlay", [None, SMOKE], ids=["demo", "smoke"])
def test_what_config_show_prints_is_the_same_configuration(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overlay: Path | None,
) -> None:
    words = ["--overlay", str(overlay)] if overlay else []
    assert call(monkeypatch, "config", "show", *words) == 0
    shown = capsys.readouterr().out
    assert "execution:" in shown
    (workspace / "shown.yaml").write_text(shown)
    overlays = [read_yaml(overlay)] if overlay else []
    assert load_config(workspace / "shown.yaml") == load_config(ROOT / "params.yaml", overlays)


def test_config_check(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "config", "check", "--overlay", str(SMOKE)) == 0
    assert "valid: scale smoke" in capsys.readouterr().out
    assert [p.name for p in workspace.iterdir()] == ["params.yaml"]


def test_config_check_names_every_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "mine.yaml").write_text("report: {dpi: 90}\n")
    words = ("--overlay", str(SMOKE), "--overlay", "mine.yaml")
    assert call(monkeypatch, "config", "check", *words) == 0
    assert f"params.yaml with {SMOKE}, mine.yaml is valid: scale smoke" in capsys.readouterr().out
    (workspace / "mine.yaml").write_text("report:\n  dpi: 9\n")
    assert call(monkeypatch, "plan", *words) == 2
    assert "report.dpi: " in (said := capsys.readouterr().err)
    assert "[mine.yaml, line 2]" in said


def test_config_use_writes_the_overlay_into_params(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    linked = workspace / "linked.yaml"
    linked.hardlink_to(workspace / "params.yaml")
    before = linked.read_text()
    assert call(monkeypatch, "config", "use", str(SMOKE)) == 0
    assert "scale smoke" in capsys.readouterr().out
    merged = load_config(ROOT / "params.yaml", [read_yaml(SMOKE)])
    assert load_config(workspace / "params.yaml") == merged
    assert build_plan(load_config(workspace / "params.yaml")) == build_plan(merged)
    assert linked.read_text() == before
    assert call(monkeypatch, "config", "use", str(SMOKE)) == 0
    assert load_config(workspace / "params.yaml") == merged


def test_config_use_leaves_params_alone_when_the_overlay_is_wrong(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (workspace / "params.yaml").read_bytes()
    (workspace / "bad.yaml").write_text("encoder: {width: 100}\n")
    assert call(monkeypatch, "config", "use", "bad.yaml") == 2
    assert (workspace / "params.yaml").read_bytes() == before
    assert sorted(p.name for p in workspace.iterdir()) == ["bad.yaml", "params.yaml"]


def test_where_tells_what_is_finished(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = build_plan(load_config(workspace / "params.yaml"))
    marker = workspace / plan.marker(next(iter(plan.jobs.values())))
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    assert call(monkeypatch, "where") == 0
    out = capsys.readouterr().out
    assert "results/tables" in out
    assert f"scale demo: 1 of {len(plan.jobs)} jobs finished" in out


def test_prune_names_what_it_moves(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workspace / "artifacts/demo/finetune/la/gone/s0"
    folder.mkdir(parents=True)
    (folder / "run-0123456789abcdef.json").write_text('{"files": {}}')
    assert call(monkeypatch, "prune", "finetune") == 0
    assert "la/gone/s0" in capsys.readouterr().out
    assert not folder.exists()
    assert (workspace / ".voxseq/attic/demo/0123456789abcdef").is_dir()


def test_run_does_a_job_and_its_marker_appears(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert call(monkeypatch, "config", "use", str(SMOKE)) == 0
    plan = build_plan(load_config(workspace / "params.yaml"))
    job = plan.jobs["download", "task07_pancreas"]
    words = ("run", "download", "task07_pancreas", "--fingerprint", job.fingerprint)
    assert call(monkeypatch, *words) == 0
    assert (workspace / plan.marker(job)).exists()
    run = job.runs[0]
    record = workspace / ".voxseq/records/smoke" / run.id / run.fingerprint
    assert run.fingerprint in (record / "log.txt").read_text()


def test_run_without_its_inputs_names_the_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "preprocess", "task.la") == 2
    error = capsys.readouterr().err
    assert "download/la is needed" in error
    assert "snakemake --cores all download" in error


def test_code_versions_are_kept_bumped_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxseq.base.files import read_json, write_json
    from voxseq.plan import code_versions as fingerprint

    path = tmp_path / "code.json"
    monkeypatch.setattr(fingerprint, "VERSIONS", path)
    assert call(monkeypatch, "code", "keep", "all") == 0
    assert call(monkeypatch, "code", "check") == 0
    record = read_json(path)
    assert {entry["version"] for entry in record.values()} == {1}
    write_json(path, {**record, "download": {"version": 4, "digest": "0" * 16}})
    capsys.readouterr()
    assert call(monkeypatch, "code", "check") == 2
    assert "download" in capsys.readouterr().err
    assert call(monkeypatch, "code", "keep", "download") == 0
    assert read_json(path)["download"]["version"] == 4
    assert call(monkeypatch, "code", "bump", "download", "finetune") == 0
    assert read_json(path)["download"]["version"] == 5
    assert read_json(path)["finetune"]["version"] == 2
    assert call(monkeypatch, "code", "check") == 0


def test_yaml_of_config_show_is_plain(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "config", "show") == 0
    assert yaml.safe_load(capsys.readouterr().out)["scale"] == "demo"


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
