"""Reading files: broken ones are refused, and messages name the file and the line of a key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.base.errors import ConfigError
from voxseq.config import load_config, read_yaml

LAUGHS = "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['lol'] * 9)}]\n" for n in range(10)
)

#: Files that are no YAML of the kind that is wanted, and words of the message.
BROKEN: dict[str, tuple[bytes, str]] = {
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
    "a mapping as key": (b"? {a: 1}\n: 3\n", "plain word"),
    "no key": (b"? \n: 3\n", "plain word"),
    "null as key": (b"~: 3\n", "plain word"),
    "every byte": (bytes(range(256)), "cannot be read"),
    "an integer of 100000 digits": (b"pretrain: {steps: " + b"9" * 100_000 + b"}\n", "YAML"),
    "a number with a leading zero": (b"pretrain: {steps: 010}\n", "leading zero"),
    "an impossible date": (b"scale: 2024-13-45\n", "YAML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, name: str) -> None:
    content, words = BROKEN[name]
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert str(path) in message
    assert words in message
    assert len(message) < 2000
    assert caught.value.hint


def test_nothing_is_executed_from_yaml(tmp_path: Path) -> None:
    path, witness = tmp_path / "x.yaml", tmp_path / "witness"
    path.write_text(f"a: !!python/object/apply:pathlib.Path.touch ['{witness}']\n")
    with pytest.raises(ConfigError):
        read_yaml(path)
    assert not witness.exists()


def test_words_and_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    """YAML 1.1 takes 1e-4 for a word, no for false, and 1:30 for ninety."""
    path = tmp_path / "x.yaml"
    path.write_text("{a: 1e-4, b: no, c: 1:30, d: '010', e: 0.5, f: 0, g: 0x1f}\n")
    expected = {"a": 1e-4, "b": "no", "c": "1:30", "d": "010", "e": 0.5, "f": 0, "g": 31}
    assert read_yaml(path) == expected


@pytest.mark.parametrize("written", ['"x \\ud83e\\udec0"', '"x \\U0001fac0"', "x \U0001fac0"])
def test_yaml_has_three_ways_to_say_one_character(tmp_path: Path, written: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"title: {written}\n", encoding="utf-8")
    assert read_yaml(path) == {"title": "x \U0001fac0"}


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
        (("pretrain:\n  threads: 1\n  steps: -1\n",), ["pretrain.steps", "[a.yaml, line 3]"]),
        (("pretrain: {threads: 1}\nstre: 1\n",), ["stre", "[a.yaml, line 2]"]),
        (("beyond:\n  frozen:\n    - la\n    - 1.5\n",), ["beyond.frozen.1", "[a.yaml, line 4]"]),
        (("report!:\n  dpi: 1\n",), ["report.dpi", "[a.yaml, line 2]"]),
        # Of several files each is named, in whatever order it is laid.
        (
            ("report: {dpi: 1}\n", "pretrain: {steps: -1}\n"),
            ["[a.yaml, line 1]", "[b.yaml, line 1]"],
        ),
        (("report: {dpi: 1}\n", "\n\nreport: {dpi: 2}\n"), ["given: 2", "[b.yaml, line 3]"]),
        (("\nreport: {dpi: 1}\n", "pretrain: {threads: 1}\n"), ["given: 1", "[a.yaml, line 2]"]),
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
    where = f"[params.yaml, line {line_of('lr: 1.0e-3, warmup_steps: 33')}]"
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
