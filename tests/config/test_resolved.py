"""The resolved configuration is read back as it was written, whatever became of its file."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import ROOT
from voxseq.base.digest import digest
from voxseq.base.errors import ConfigError
from voxseq.config import load_config, read_yaml, write_resolved
from voxseq.config.load import validate

DEMO = load_config(ROOT / "params.yaml").model_dump(mode="json")
TITLES = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=30
).filter(str.strip)


def named(title: str, **more: Any) -> dict[str, Any]:
    tasks = DEMO["finetune"]["tasks"]
    la = {**tasks["la"], "title": title, **more}
    return {**DEMO, "finetune": {**DEMO["finetune"], "tasks": {**tasks, "la": la}}}


def read_back(title: str, folder: Path) -> None:
    config = validate(named(title, labels=[title]), "x")
    assert load_config(write_resolved(config, folder)) == config


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(title=TITLES)
def test_texts_are_read_back_as_they_are(title: str, tmp_path: Path) -> None:
    read_back(title, tmp_path)


def test_characters_of_every_plane_are_read_back(tmp_path: Path) -> None:
    """The first printable one of each plane, and those at which encodings break."""
    firsts = [
        next((chr(c) for c in range(p * 65536 + 0x20, (p + 1) * 65536) if is_printable(c)), "")
        for p in range(17)
    ]
    read_back("".join(firsts), tmp_path)
    read_back("\ud7ff\ue000￼\U00010000\U0001fac0\U0010ffff\u200d#: \"'\\/{}[]", tmp_path)


def is_printable(number: int) -> bool:
    return unicodedata.category(chr(number)) not in {"Cc", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("written", ['"x \\ud83e\\udec0"', '"x \\U0001fac0"', "x \U0001fac0"])
def test_yaml_has_three_ways_to_say_one_character(tmp_path: Path, written: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"title: {written}\n", encoding="utf-8")
    assert read_yaml(path) == {"title": "x \U0001fac0"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a\ud83e", "lone surrogate U+D83E"),
        ("a\udec0b", "lone surrogate U+DEC0"),
        ("a\nb", "control character U+000A"),
        ("a\x00", "U+0000"),
        ("a\x1b[31m", "U+001B"),
        ("a\x7f", "U+007F"),
        ("a\x85", "U+0085"),
        ("a\u2028b", "U+2028"),
    ],
)
def test_texts_that_no_line_holds_are_refused_with_the_key(text: str, word: str) -> None:
    places = (
        ("finetune.tasks.la.title", named(text)),
        ("finetune.tasks.la.labels.0", named("LA", labels=[text])),
        ("data.root", {**DEMO, "data": {**DEMO["data"], "root": text}}),
        ("pretrain", {**DEMO, "pretrain": {**DEMO["pretrain"], text: 1}}),
    )
    for key, content in places:
        with pytest.raises(ConfigError) as caught:
            validate(content, "mine.yaml")
        assert f"  {key}: " in str(caught.value)
        assert word in str(caught.value)
        str(caught.value).encode()


@pytest.mark.parametrize("title", ["", "  ", "x" * 101, "x" * 100_000])
def test_titles_have_a_sensible_length(title: str) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.tasks\.la\.title") as caught:
        validate(named(title), "mine.yaml")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("damage", [b"", b'{"scale": "de', b"{}", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    config = validate(DEMO, "x")
    path = write_resolved(config, tmp_path)
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    assert write_resolved(config, tmp_path) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(damage)
    assert write_resolved(config, tmp_path) == path
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_its_name_is_its_digest(tmp_path: Path) -> None:
    path = write_resolved(validate(DEMO, "x"), tmp_path)
    assert path.stem == digest(json.loads(path.read_text()))
