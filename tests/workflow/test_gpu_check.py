"""The check on a GPU: every part on a CPU at toy size, and what ends, fails and is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import steps
from benchmarks.gpu.material import Clock
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.report import Report, gathered
from benchmarks.gpu.runner import BUDGET, Check, Part, summary
from benchmarks.gpu.sizes import TINY, Setting
from benchmarks.gpu.table import document, lines_of
from benchmarks.material import ROOT

#: Of a machine with other work: there is no lease to keep to.
SECONDS = 1800


@pytest.mark.slow
def test_every_part_passes_on_a_cpu_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "gpu.jsonl"
    words = ["--tiny", "--device", "cpu", "--budget", str(SECONDS), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [line["part"] for line in lines] == [part.name for part in PARTS]
    for line in lines:
        assert line["ok"] is True, line
        assert line["values"] or line["checks"]
        assert line["versions"]["torch"]
    # Figures of a CPU make no page of a GPU.
    refused = CliRunner().invoke(program.main, ["--table", str(out)])
    assert refused.exit_code != 0
    assert "is not of a GPU" in refused.output


def test_the_parts_fit_the_budget() -> None:
    assert sum(part.seconds for part in PARTS) <= BUDGET


def part(name: str, work: Callable[[Setting, Report], None], seconds: float = 60.0) -> Part:
    return Part(name, seconds, f"a part that is called {name}", work)


def fine(setting: Setting, report: Report) -> None:
    report.spread("figure", [3.0, 1.0, 2.0])
    report.at_most("difference", 0.5, 1.0)


def wrong(setting: Setting, report: Report) -> None:
    report.at_least("share", 0.1, 0.9)


def raising(setting: Setting, report: Report) -> None:
    report.value("before", 1)
    raise ValueError("no such operation")


def guarded(setting: Setting, report: Report) -> None:
    with report.guard("first"):
        raise ValueError("no such operation")
    report.value("after", 1)


def ended(setting: Setting, report: Report) -> None:
    os._exit(7)


def endless(setting: Setting, report: Report) -> None:
    report.value("process", os.getpid())
    child = subprocess.Popen(["sleep", "600"])
    report.value("its child", child.pid)
    time.sleep(600)


def run(folder: Path, parts: list[Part], budget: float = BUDGET) -> tuple[bool, list[dict]]:
    out = folder / "gpu.jsonl"
    passed = Check(folder, TINY, "cpu", budget, {"torch": "2"}).run(parts, out)
    return passed, [json.loads(text) for text in out.read_text().splitlines()]


def test_a_line_has_what_a_part_found(tmp_path: Path) -> None:
    passed, (line,) = run(tmp_path, [part("fine", fine)])
    assert passed
    assert line["ok"] is True
    assert line["values"] == {"figure": {"median": 2.0, "lowest": 1.0, "highest": 3.0, "n": 3}}
    (check,) = line["checks"]
    assert check == {"name": "difference", "ok": True, "found": 0.5, "wanted": "at most 1"}


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (wrong, "share: 0.1 (at least 0.9)"),
        (raising, "ValueError: no such operation"),
        (guarded, "first: ValueError: no such operation"),
        (ended, "ended with status 7"),
    ],
)
def test_a_part_that_fails_is_named_and_the_next_one_is_done(
    tmp_path: Path, work: Callable[[Setting, Report], None], said: str
) -> None:
    passed, (bad, good) = run(tmp_path, [part("bad", work), part("good", fine)])
    assert not passed
    assert (bad["ok"], good["ok"]) == (False, True)
    assert said in summary(bad)
    if work in (raising, guarded):
        assert set(bad["values"]) <= {"before", "after"}
        assert bad["values"]


def test_a_part_that_overruns_is_ended_with_its_processes(tmp_path: Path) -> None:
    passed, (late, good) = run(tmp_path, [part("late", endless, 3.0), part("good", fine)])
    assert not passed
    assert late["ok"] is False
    assert "its time was over" in late["error"]
    assert good["ok"] is True
    for number in late["values"].values():
        state = Path(f"/proc/{number}/stat")
        # The child may be left for its new parent to collect.
        assert not state.exists() or state.read_text().split(") ")[1][0] == "Z"
    assert len(late["values"]) == 2


def test_what_a_part_leaves_over_is_for_the_next_ones(tmp_path: Path) -> None:
    slow = part("slow", lambda setting, report: time.sleep(2.0), 1.0)
    passed, lines = run(tmp_path, [part("quick", fine, 30.0), slow])
    assert passed, lines


def test_no_part_begins_when_the_time_is_over(tmp_path: Path) -> None:
    waits = part("waits", endless, BUDGET)
    passed, (_, line) = run(tmp_path, [waits, part("never", fine)], budget=3.0)
    assert not passed
    assert line["ok"] is None
    assert "s were left" in line["skipped"]["part"]
    assert "not run" in summary(line)


def test_nothing_that_ran_is_no_success(tmp_path: Path) -> None:
    passed, (line,) = run(tmp_path, [part("fine", fine)], budget=1.0)
    assert not passed
    assert line["ok"] is None


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    Report(path).value("one", 1)
    with path.open("a") as file:
        file.write('{"kind": "value", "na')
    assert gathered(path)["values"] == {"one": 1}
    assert gathered(tmp_path / "none")["checks"] == []


@pytest.mark.parametrize(
    ("allocated", "planned", "ok"), [(110, 90, True), (84, 90, False), (120, 90, False)]
)
def test_memory_is_compared_with_the_plan(
    tmp_path: Path, allocated: int, planned: int, ok: bool
) -> None:
    report = Report(tmp_path / "report.jsonl")
    clock = Clock("cpu", allocated=[1, allocated], reserved=[1, 2 * allocated])
    steps._memory(report, "ours", planned, 10, clock)
    (check,) = gathered(tmp_path / "report.jsonl")["checks"]
    assert check["ok"] is ok


def test_memory_that_the_plan_does_not_count_is_not_compared(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.jsonl")
    steps._memory(report, "ours", None, 10, Clock("cpu", allocated=[5], reserved=[6]))
    found = gathered(tmp_path / "report.jsonl")
    assert (found["checks"], len(found["skipped"]), len(found["values"])) == ([], 1, 2)


def test_an_unknown_part_is_refused() -> None:
    done = CliRunner().invoke(program.main, ["--parts", "machine,speed"])
    assert done.exit_code == 2
    assert "no part is called speed" in done.output


def test_the_page_has_all_that_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part("first", wrong), part("second", raising), part("third", fine)]
    _, lines = run(tmp_path, parts)
    out = tmp_path / "gpu.jsonl"
    # A part that was done again counts with its last line.
    again = {**lines[2], "device": "cuda", "skipped": {"graph": "there is none"}}
    on_gpu = [{**line, "device": "cuda"} for line in lines]
    out.write_text("".join(json.dumps(line) + "\n" for line in [*on_gpu, again]))
    assert len(lines_of(out)) == 3
    monkeypatch.setattr(program, "_TABLE", tmp_path / "gpu.md")
    done = CliRunner().invoke(program.main, ["--table", str(out)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "gpu.md").read_text()
    assert page == document(lines_of(out))
    shown = page.splitlines()
    assert any(row.startswith("| first:") and row.endswith("| share |") for row in shown)
    assert any("**no**" in row and "no such operation" in row for row in shown)
    assert "| figure | 2 | 1 | 3 | 3 |" in shown
    assert "| share | 0.1 | at least 0.9 | **no** |" in shown
    assert "- Not measured: graph (there is none)." in shown
