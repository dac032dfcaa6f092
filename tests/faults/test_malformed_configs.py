"""Malformed configurations: the command line refuses them with file, reason and next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import ROOT
from tests.helpers.places import Zygote

MEMORY = 1 << 30
PATIENCE = 30
LAUGHS = "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['lol'] * 9)}]\n" for n in range(10)
)

#: Overlays that are no YAML of the kind that is wanted, and words of the message.
FILES: dict[str, tuple[bytes, str]] = {
    "the same key twice": (b"scale: a\nscale: b\n", "duplicate key 'scale'"),
    "the same key twice, deep inside": (
        b"finetune: {tasks: {la: {steps: 1, steps: 2}}}\n",
        "duplicate key 'steps'",
    ),
    "the same key twice, as word and quoted": (b'scale: a\n"scale": b\n', "duplicate key"),
    "an anchor": (b"encoder: &x {width: 12}\nstore: *x\n", "anchors and aliases"),
    "a billion laughs": (LAUGHS.encode(), "anchors and aliases"),
    "an alias to itself": (b"a: &a [*a]\n", "anchors and aliases"),
    "a merge key": (b"encoder: {<<: {width: 12}}\n", "not valid YAML"),
    "an object of Python": (b"scale: !!python/object/new:os.system ['touch x']\n", "YAML"),
    "a call of Python": (b"scale: !!python/object/apply:os.system ['touch x']\n", "YAML"),
    "a module of Python": (b"scale: !!python/module:os\n", "YAML"),
    "a tuple of Python": (b"scale: !!python/tuple [1, 2]\n", "YAML"),
    "an unknown tag": (b"scale: !secret x\n", "YAML"),
    "a set": (b"scale: !!set {a, b}\n", "set is not supported"),
    "binary data": (b"scale: !!binary aGFsbG8=\n", "binary is not supported"),
    "an ordered mapping": (b"encoder: !!omap [width: 12]\n", "omap is not supported"),
    "a tab": (b"encoder:\n\twidth: 12\n", "YAML"),
    "a list at the top": (b"- scale\n- a\n", "found list"),
    "a word": (b"scale", "found str"),
    "a number": (b"12\n", "found int"),
    "a date": (b"2024-01-01\n", "found date"),
    "two documents": (b"scale: a\n---\nscale: b\n", "YAML"),
    "a bracket that stays open": (b"encoder: [1, 2\n", "YAML"),
    "a quote that stays open": (b"scale: 'a\n", "YAML"),
    "not UTF-8": (b"scale: \xff\xfe\n", "UTF-8"),
    "UTF-16": ("scale: a\n".encode("utf-16"), "UTF-8"),
    "a zero byte": (b"scale: a\0b\n", "YAML"),
    "a control character": (b"scale: a\x07b\n", "YAML"),
    "nested to no end": (b"scale: " + b"[" * 100_000, "YAML"),
    "mappings nested to no end": (b"{a: " * 50_000, "YAML"),
    "a list as key": (b"? [1, 2]\n: 3\n", "plain word"),
    "no key": (b"? \n: 3\n", "plain word"),
    "an integer of 100000 digits": (b"pretrain: {steps: " + b"9" * 100_000 + b"}\n", "YAML"),
    "a number with a leading zero": (b"pretrain: {steps: 010}\n", "leading zero"),
    "a number with colons": (b"pretrain: {steps: 1:30}\n", "colon"),
    "an impossible date": (b"scale: 2024-13-45\n", "YAML"),
}

#: Overlays of sound YAML with impossible values, and words of the message.
VALUES: dict[str, tuple[str, str]] = {
    "an unknown key": ("encodr: {width: 12}", "encodr"),
    "an unknown key inside": ("pretrain: {stps: 5}", "pretrain.stps"),
    "a number as key": ("1: 2", "1"),
    "a negative number": ("pretrain: {steps: -5}", "pretrain.steps"),
    "zero": ("pretrain: {batch_size: 0}", "pretrain.batch_size"),
    "a fraction": ("pretrain: {steps: 1.5}", "pretrain.steps"),
    "a truth value": ("pretrain: {steps: yes}", "pretrain.steps"),
    "a word": ("pretrain: {steps: many}", "pretrain.steps"),
    "a list": ("pretrain: {steps: [1]}", "pretrain.steps"),
    "nothing": ("pretrain: {steps: }", "pretrain.steps"),
    "more than 32 bits": ("pretrain: {steps: 99999999999}", "pretrain.steps"),
    "no number": ("data: {min_valid_fraction: .nan}", "data.min_valid_fraction"),
    "infinity": ("data: {min_valid_fraction: .inf}", "data.min_valid_fraction"),
    "beyond floats": ("data: {fetch_at_most_gb: 1e400}", "data.fetch_at_most_gb"),
    "a fetch limit beyond bytes": ("data: {fetch_at_most_gb: 1e308}", "data.fetch_at_most_gb"),
    "a share above 1": ("data: {min_valid_fraction: 2}", "data.min_valid_fraction"),
    "shares that do not add up": ("data: {split_ratio: [1, 1, 1]}", "split_ratio"),
    "a method of another name": ("pretrain: {methods: {simclear: {}}}", "simclear"),
    "a data set of another name": (
        "finetune: {tasks: {la: {dataset: lla}}}",
        "lla",
    ),
    "a task's name with a path": ("finetune: {tasks: {../x: {type: segmentation}}}", "../x"),
    "a task's name with a command": ("finetune: {tasks: {'$(id)': {}}}", "$(id)"),
    "a scale with a path": ("scale: ../../etc", "scale"),
    "a scale with a newline": ('scale: "a\\nb"', "scale"),
    "results elsewhere": ("results: /etc", "results"),
    "results above": ("results: results/../../x", "results"),
    "a sequence that overruns": ("sequences: {spatial: {stride: 500}}", "stride"),
    "a window upside down": ("finetune: {tasks: {task09_spleen: {data: {window: [9, 1]}}}}", "low"),
    "a patch that does not divide": ("encoder: {patch_size: [5, 5, 5]}", "patch_size"),
    "a mapping in place of a list": ("finetune: {seeds: {a: 1}}", "finetune.seeds"),
    "a seed twice": ("finetune: {seeds: [1, 1]}", "finetune.seeds"),
    "a section that is a word": ("finetune: fast", "finetune"),
    "a lone surrogate": (
        'finetune: {tasks: {la: {title: "a\\ud83e"}}}',
        "finetune.tasks.la.title: the lone surrogate U+D83E",
    ),
    "a control character, escaped": (
        'finetune: {tasks: {la: {title: "a\\x1b[2J"}}}',
        "finetune.tasks.la.title: the control character U+001B",
    ),
    "a title of 100000 characters": (
        f"finetune: {{tasks: {{la: {{title: {'x' * 100_000}}}}}}}",
        "finetune.tasks.la.title",
    ),
    "a scale that takes the demo's results": ("scale: mine", "results is the folder of scale demo"),
    "results inside the demo's": ("results: results/tables", "results/tables"),
    "a batch of one": ("pretrain: {batch_size: 1}", "simclr: pretrain.batch_size 1"),
    "a label beyond a byte": (
        "finetune: {tasks: {task09_spleen: {data: {merge_labels: {1: 300}}}}}",
        "merge_labels.1",
    ),
    "a negative merge": (
        "finetune: {tasks: {task09_spleen: {data: {merge_labels: {a: b}}}}}",
        "merge_labels",
    ),
}


def said(zygote: Zygote, folder: Path, content: bytes) -> str:
    """What ``voxseq config check`` says to an overlay; it must be an error of ours."""
    workspace = folder / "x"
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
    return ended.output[ended.output.index("error: ") :]


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_configuration(zygote: Zygote, tmp_path: Path, name: str) -> None:
    content, words = FILES[name]
    message = said(zygote, tmp_path, content)
    assert words in message
    assert len(message) < 2000


@pytest.mark.usefixtures("tried")
@pytest.mark.parametrize("name", VALUES)
def test_impossible_values(zygote: Zygote, tmp_path: Path, name: str) -> None:
    content, words = VALUES[name]
    message = said(zygote, tmp_path, content.encode())
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
