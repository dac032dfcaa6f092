"""Messages name the file and the line that a key comes from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.config import load_config, read_yaml


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "workflow/scales").mkdir(parents=True)
    (tmp_path / "workflow/scales/open.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(folder: Path, *overlays: str) -> str:
    for name, text in zip("ab", overlays, strict=False):
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    read = [read_yaml(Path(f"{name}.yaml")) for name, _ in zip("ab", overlays, strict=False)]
    with pytest.raises(ConfigError) as caught:
        load_config(Path("params.yaml"), read)
    return str(caught.value)


def line_of(text: str) -> int:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    return next(n for n, line in enumerate(lines, start=1) if text in line)


@pytest.mark.parametrize(
    ("overlays", "words"),
    [
        # A value, an unknown key, an item of a list, a key that replaces what lies below.
        (("pretrain:\n  seed: 1\n  steps: -1\n",), ["pretrain.steps", "[a.yaml, line 3]"]),
        (("pretrain: {seed: 1}\nstre: 1\n",), ["stre", "[a.yaml, line 2]"]),
        (("finetune:\n  seeds:\n    - 1\n    - -1\n",), ["finetune.seeds.1", "[a.yaml, line 4]"]),
        (("report!:\n  dpi: 1\n",), ["report.dpi", "[a.yaml, line 2]"]),
        # Of several files each is named, in whatever order it is laid.
        (
            ("report: {dpi: 1}\n", "pretrain: {steps: -1}\n"),
            ["[a.yaml, line 1]", "[b.yaml, line 1]"],
        ),
        (("report: {dpi: 1}\n", "\n\nreport: {dpi: 2}\n"), ["given: 2", "[b.yaml, line 3]"]),
        (("\nreport: {dpi: 1}\n", "pretrain: {seed: 1}\n"), ["given: 1", "[a.yaml, line 2]"]),
        # What all tasks of a type share stands elsewhere in the file.
        (
            ("finetune:\n  defaults:\n    segmentation:\n      overlap: 2\n",),
            ["finetune.tasks.la.overlap", "[a.yaml, line 4]"],
        ),
        (
            ("finetune:\n  networks:\n    resnet: {width: 9}\n",),
            ["networks.resnet.width", "line 3]"],
        ),
        # Checks of several keys.
        (("sequences:\n  spatial:\n    stride: 9\n",), ["spatial.stride 9", "[a.yaml, line 3]"]),
        (
            ("report: {dpi: 99}\npretrain: {batch_size: 1}\n",),
            ["batch_size 1", "[params.yaml, line"],
        ),
        (("scale: mine\n",), ["results is the folder of scale demo", "such as results/mine"]),
        (("scale: x\nresults: results/open\n",), ["results/open is the", "[a.yaml, line 2]"]),
    ],
)
def test_the_file_and_the_line(folder: Path, overlays: tuple[str, ...], words: list[str]) -> None:
    message = refused(folder, *overlays)
    assert "params.yaml with a.yaml" in message
    for word in words:
        assert word in message, message


def test_a_key_of_the_base_is_named_with_its_own_line(folder: Path) -> None:
    message = refused(folder, "pretrain: {steps: 20}\n")
    where = f"[params.yaml, line {line_of('lr: 1.0e-3, warmup_steps: 65')}]"
    assert next(line for line in message.splitlines() if "medcoss" in line).endswith(where)


def test_a_missing_key_is_named_with_the_place_above_it(folder: Path) -> None:
    message = refused(folder, "\nfinetune: {tasks: {new: {type: segmentation}}}\n")
    assert "finetune.tasks.new.title: Field required [a.yaml, line 2]" in message


def test_yaml_that_cannot_be_read_is_named_with_file_and_line(folder: Path) -> None:
    for text, line in (("a: 1\nb: [1\n", 3), ("a: 1\na: 2\n", 2), ("a: 1\nb: \x07\n", 2)):
        (folder / "a.yaml").write_text(text)
        with pytest.raises(ConfigError, match=rf"a\.yaml(.|\n)*line {line}"):
            read_yaml(Path("a.yaml"))


def test_all_overlays_are_laid_in_turn(folder: Path) -> None:
    (folder / "a.yaml").write_text("report: {dpi: 50, figure_seed: 1}\nbeyond: {trivial: [la]}\n")
    (folder / "b.yaml").write_text('report: {dpi: 60}\n"beyond!": {frozen: [la]}\n')
    found = load_config(Path("params.yaml"), [read_yaml(Path(f"{n}.yaml")) for n in "ab"])
    assert (found.report.dpi, found.report.figure_seed) == (60, 1)
    assert (found.beyond.trivial, found.beyond.frozen) == ((), ("la",))


def test_a_folder_below_the_workspace_is_told_where_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = folder / "one/two"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    with pytest.raises(ConfigError) as caught:
        load_config(Path("params.yaml"))
    assert "params.yaml cannot be read: there is no such file" in str(caught.value)
    assert str(folder) in caught.value.hint
    assert "encoding" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.write_bytes(b"\xff"), "utf-8"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    folder: Path, make: object, reason: str
) -> None:
    path = folder / "other.yaml"
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=rf"other\.yaml cannot be read: .*{reason}") as caught:
        read_yaml(path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": ', "not valid JSON"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("[1]", "found list"),
    ],
)
def test_json_is_read_as_strictly(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word):
        read_yaml(path)
