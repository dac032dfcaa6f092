"""Every command that the pages name has its time, memory and last line in docs/costs.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.pages import PAGES, blocks, calls
from voxseq.config import load_config, read_yaml
from voxseq.plan import build_plan

COSTS = ROOT / "docs/costs.md"
#: Words of a command besides its first, where it is not the next one alone.
_GROUPS = {
    "voxseq": {"code", "config", "data"},
    "dvc": {"cache", "exp", "metrics", "params", "plots"},
}
#: Tables whose last lines hold numbers of jobs, and the scale that each command lays over the demo.
_COUNTED = (ROOT / "README.md", COSTS)
_OVERLAYS = {"make reproduce": (), "make beyond": ("beyond",), "make study": ("study",)}
_JOBS = re.compile(r"`scale (?P<scale>\w+): (?P<done>\d+) of (?P<all>\d+) jobs finished`")
_ROW = re.compile(r"^\| (?P<commands>`[^|]+`[^|]*)\|(?P<cells>.+)\|$", re.MULTILINE)


def names(words: list[str]) -> Iterator[str]:
    """What a command is called in the table; nothing for programs that are no part of voxseq."""
    program, *rest = words
    if program == "make":
        yield from (f"make {word}" for word in rest if "=" not in word and word[0] != "-")
    elif program in _GROUPS and rest:
        count = 2 if rest[0] in _GROUPS[program] else 1
        yield " ".join([program, *rest[:count]])
    elif program == "snakemake":
        yield "snakemake -n" if "-n" in rest else "snakemake"
    elif program == "python":
        yield " ".join(words[:3]) if rest[0] == "-m" else " ".join(words[:2])


def used() -> dict[str, str]:
    """Each command of the pages, with one page that has it."""
    found: dict[str, str] = {}
    for page in filter(Path.is_file, PAGES):
        lines = (line for block in blocks(page) for line in block.commands)
        for line in lines:
            for words in calls(line):
                found |= {name: str(page.relative_to(ROOT)) for name in names(words)}
    return found


def rows() -> dict[str, list[str]]:
    """Commands of the table, with time, memory and last line."""
    found = {}
    for row in _ROW.finditer(COSTS.read_text(encoding="utf-8")):
        for command in re.findall(r"`([^`]+)`", row["commands"]):
            found[command] = [cell.strip() for cell in row["cells"].split("|")]
    return found


@pytest.mark.parametrize(("command", "page"), used().items())
def test_a_command_has_its_row(command: str, page: str) -> None:
    assert any(f"{known} ".startswith(f"{command} ") for known in rows()), page


def test_no_cell_is_empty() -> None:
    assert rows()
    assert all(len(cells) == 3 and all(cells) for cells in rows().values())


@pytest.mark.parametrize("command", _OVERLAYS)
def test_the_number_of_jobs_is_that_of_the_plan(command: str) -> None:
    overlays = [read_yaml(ROOT / f"workflow/scales/{name}.yaml") for name in _OVERLAYS[command]]
    config = load_config(ROOT / "params.yaml", overlays)
    jobs = str(len(build_plan(config).jobs))
    lines = [line for page in _COUNTED for line in page.read_text().splitlines()]
    found = [_JOBS.search(line) for line in lines if line.startswith(f"| `{command}`")]
    assert any(found)
    for line in filter(None, found):
        assert (line["scale"], line["done"], line["all"]) == (config.scale, jobs, jobs)
