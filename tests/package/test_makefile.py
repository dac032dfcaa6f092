"""`make help` names every target, and CI's file does what .ci/run does."""

from __future__ import annotations

import re
import subprocess

import yaml

from tests.helpers import ROOT

#: Parts of other targets.
PARTS = {"help", "faults-of-runs", "faults-of-engines", "lint-types", "lint-rest"}


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    return set(line.split())


def test_help_names_every_target() -> None:
    said = subprocess.check_output(["make", "--silent", "help"], cwd=ROOT, text=True)
    named = set(re.findall(r"^  make ([\w-]+) ", said, re.MULTILINE))
    assert named == targets() - PARTS
    assert max(map(len, said.splitlines())) <= 100


def test_every_target_is_declared() -> None:
    text = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE)) == targets()


def test_ci_runs_its_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["everything"]["steps"] if "run" in step]
    assert steps == [".ci/run"]
    script = (ROOT / ".ci/run").read_text()
    lines = re.findall(r"^step make ([\w-]+)", script, re.MULTILINE)
    (beside,) = re.findall(r"^targets=\((.+)\)$", script, re.MULTILINE)
    assert {*lines, *beside.split()} <= targets()


def test_what_ci_leaves_out_is_done_at_night() -> None:
    """Each marker that `make test-fast` excludes has a target of the nightly workflow."""
    text = (ROOT / "Makefile").read_text()
    (excluded,) = re.findall(r"^test-fast:.*\n.* -m \"(not .*)\"", text, re.MULTILINE)
    assert set(excluded.split(" and ")) == {"not slow", "not faults"}
    workflow = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["everything"]["steps"] if "run" in step]
    assert steps == ["make test test-faults test-bundles"]
