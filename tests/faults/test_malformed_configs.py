"""Malformed configurations: the command line refuses them with file, reason and next step.

:mod:`tests.config` has the whole tables; here are those that could take time or memory, or end in
another way than by an error.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.test_reading import BROKEN
from tests.helpers import ROOT
from tests.helpers.places import Zygote

MEMORY = 1 << 30
PATIENCE = 30
#: Sound YAML with impossible values.
VALUES: dict[str, tuple[bytes, str]] = {
    "an unknown key": (b"encodr: {width: 12}", "encodr"),
    "beyond floats": (b"data: {fetch_at_most_gb: 1e400}", "data.fetch_at_most_gb"),
    "a task's name with a command": (b"finetune: {tasks: {'$(id)': {}}}", "$(id)"),
    "a control character, escaped": (
        b'finetune: {tasks: {la: {title: "a\\x1b[2J"}}}',
        "finetune.tasks.la.title: the control character U+001B",
    ),
    "a title of 100000 characters": (
        b"finetune: {tasks: {la: {title: " + b"x" * 100_000 + b"}}}",
        "finetune.tasks.la.title",
    ),
    "a scale that takes the demo's results": (
        b"scale: mine",
        "results is the folder of scale demo",
    ),
}


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize(
    ("content", "words"), {**BROKEN, **VALUES}.values(), ids=[*BROKEN, *VALUES]
)
def test_overlays_are_refused(zygote: Zygote, tmp_path: Path, content: bytes, words: str) -> None:
    workspace = tmp_path / "x"
    workspace.mkdir()
    (workspace / "mine.yaml").write_bytes(content)
    params = str(ROOT / "params.yaml")
    ended = zygote.run(
        workspace,
        *("config", "check", "--params", params, "--overlay", "mine.yaml"),
        memory=MEMORY,
        patience=PATIENCE,
    )
    assert ended.status == 2, ended.said
    assert "Traceback" not in ended.output
    assert ended.output.count("\n  next: ") == 1
    assert sorted(p.name for p in workspace.iterdir()) == ["mine.yaml"]
    message = ended.output[ended.output.index("error: ") :]
    assert words in message
    assert len(message) < 3000


def test_an_empty_file_changes_nothing(zygote: Zygote, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine.yaml").write_text("# nothing yet\n")
    words = ("config", "check", "--params", str(ROOT / "params.yaml"), "--overlay", "mine.yaml")
    assert zygote.run(tmp_path / "x", *words).status == 0
    # As the configuration itself it lacks what is required.
    ended = zygote.run(tmp_path / "x", "config", "check", "--params", "mine.yaml")
    assert ended.status == 2
    assert "scale: Field required" in ended.output


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("content", [b"", b"scale: ", b"a: [", b"\xff", b"a: &x 1\nb: *x\n"])
@pytest.mark.parametrize("command", ["plan", "prune", "tables", "where", "record"])
def test_every_command_refuses_it_alike(
    zygote: Zygote, tmp_path: Path, command: str, content: bytes
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/params.yaml").write_bytes(content)
    ended = zygote.run(tmp_path / "x", command, patience=PATIENCE)
    assert ended.status == 2, ended.said
    assert "error: params.yaml" in ended.output
    assert "Traceback" not in ended.output
