"""The shell blocks of the documentation, and whether their commands exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tests.helpers import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/open/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_BLOCK = re.compile(
    r"^(?P<marks>(?:[ ]*<!-- not run: [^\n]+ -->\n)?)(?P<indent>[ ]*)```(?:sh|bash|shell|console)\n"
    r"(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
#: Programs that are no part of voxseq.
_OTHERS = {
    *("git", "pip", "kubectl", "cd", "export", ".", "mv", "ln", "$EDITOR", "mkdir", "unset", "rm"),
    *("docker", "apptainer", "conda", "jupyter", "eval"),
}


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        commands: its lines without remarks.
        is_run: whether it can be run anywhere; a mark in the page says so otherwise.
    """

    commands: tuple[str, ...]
    is_run: bool


def blocks(page: Path) -> list[Block]:
    """The shell blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        lines = (without_remark(line) for line in match["text"].splitlines())
        found.append(Block(tuple(filter(None, lines)), not match["marks"]))
    return found


def without_remark(line: str) -> str:
    """A line without what follows a hash."""
    return re.sub(r"(^|\s)#.*", "", line).strip()


def calls(line: str) -> Iterator[list[str]]:
    """The words of each command of a line."""
    for part in re.split(r"&&|;|\|", line):
        words = shlex.split(part)
        if words[:1] == ["bash"]:
            assert (ROOT / words[1]).is_file(), f"there is no script {words[1]}"
            if not words[1].endswith("until_stopped.sh"):
                continue
            words = words[2:]
        yield words


def check(words: list[str]) -> None:
    """Fail when a command, an option or a target does not exist."""
    program, *rest = words
    checks = {"voxseq": voxseq, "snakemake": snakemake, "dvc": dvc, "make": make, "python": python}
    if program in checks:
        checks[program](rest)
    elif program not in _OTHERS:
        assert (ROOT / program).is_file(), f"nobody knows the program {program}"
    if program == "pip":
        assert not any(word.startswith("voxseq") for word in rest), "there is no such package"


def voxseq(words: list[str]) -> None:
    """Let click read the words, without doing what they say."""
    from voxseq.cli.main import cli

    command: click.Command = cli
    context = click.Context(cli, info_name="voxseq")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"voxseq has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    _read(command, context, words)


def python(words: list[str]) -> None:
    """Let click read the words of a module that pages run, or a bundle its own script's."""
    if words[0] == "scripts/predict.py":
        from voxseq.predict.export.standalone.predict import command

        command().parse_args(words[1:])
        return
    if words[:2] == ["-m", "venv"]:
        return
    from benchmarks import demo_settings
    from benchmarks.gpu import __main__ as gpu

    mains = {"benchmarks.demo_settings": demo_settings.main, "benchmarks.gpu": gpu.main}
    option, module, *rest = words
    assert option == "-m", f"nobody knows python {words}"
    assert module in mains, f"nobody knows python {words}"
    _read(mains[module], click.Context(mains[module], info_name=module), rest)


def _read(command: click.Command, context: click.Context, words: list[str]) -> None:
    try:
        command.make_context(context.info_name, list(words), parent=context.parent)
    except click.MissingParameter:
        raise
    except click.BadParameter:
        # A file of the reader's that is not here.
        return


def snakemake(words: list[str]) -> None:
    """Let Snakemake read the words; its targets have to be rules."""
    from snakemake.cli import get_argument_parser

    arguments = get_argument_parser().parse_args(words)
    text = (ROOT / "Snakefile").read_text()
    rules = set(re.findall(r'^    "(\w+)": \(', text, re.MULTILINE))
    # `--configfile` takes every word that follows it.
    targets = {t for t in arguments.targets or () if not re.fullmatch(r"seed_\d+", t)}
    assert targets <= rules, targets
    for name in arguments.configfile or ():
        assert str(name) in (*rules, "mine.yaml") or (ROOT / name).is_file(), name
    profile = arguments.workflow_profile
    assert profile is None or (ROOT / profile / "config.yaml").is_file(), profile


def dvc(words: list[str]) -> None:
    """Let DVC read the words."""
    from dvc.cli import parse_args

    parse_args(words)


def make(words: list[str]) -> None:
    """Every target has to be one of the Makefile's."""
    text = (ROOT / "Makefile").read_text()
    for word in words:
        if "=" not in word and not word.startswith("-"):
            assert re.search(rf"^{re.escape(word)}:", text, re.MULTILINE), f"no target {word}"
