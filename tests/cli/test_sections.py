"""The help of `voxseq`: what users type first, what the workflow calls apart, nothing cut off."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tests.helpers.calling import Call
from voxseq.cli.main import cli
from voxseq.cli.sections import Sections

FOR_USERS = {
    *("new", "init", "run", "status", "tables", "predict", "evaluate", "features", "export"),
    *("picture", "data", "plan", "config"),
}
ENGINES = {"job", "close", "record", "code"}


def sections(text: str) -> dict[str, list[str]]:
    """Title → names of commands, as printed."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if title := re.fullmatch(r"(\S.*):", line):
            found[title[1]] = []
        elif found and (name := re.match(r"  ([\w-]+) {2,}\S", line)):
            [*found.values()][-1].append(name[1])
    return found


def test_users_come_first(call: Call) -> None:
    found = sections(call("--help").out)
    del found["Options"]
    assert found == cli.sections
    *users, last = found.values()
    assert {name for names in users for name in names} >= FOR_USERS
    assert set(last) >= ENGINES
    assert not FOR_USERS & set(last)


def test_every_command_is_in_one_section(call: Call) -> None:
    named = [name for names in cli.sections.values() for name in names]
    assert sorted(named) == sorted(cli.commands)


def test_no_sentence_is_cut(call: Call) -> None:
    _, commands = call("--help").out.split("Your studies:")
    assert "..." not in commands


def test_a_command_without_section_is_shown_last() -> None:
    group = Sections("program")
    group.add_section("First", [click.Command("one", help="Do one.")])
    group.add_command(click.Command("two", help="Do two."))
    group.add_command(click.Command("none", hidden=True))
    assert sections(CliRunner().invoke(group, ["--help"]).output)["Commands"] == ["two"]
    assert group.list_commands(click.Context(group)) == ["one", "none", "two"]


@pytest.mark.parametrize(
    ("words", "expected"), [("voxseq pre", "predict"), ("voxseq config s", "show")]
)
def test_shells_complete_commands(words: str, expected: str) -> None:
    asked = {
        "_VOXSEQ_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "import sys; sys.argv = ['voxseq']; from voxseq.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**asked, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"plain,{expected}" in done.stdout.split()
