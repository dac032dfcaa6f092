"""Which images pre-training is not shown, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.sequence_store import (
    SOURCES,
    Image,
    build_index,
    config,
    noise,
    write_download,
    write_store,
)
from voxseq.base.errors import ConfigError
from voxseq.base.files import read_json
from voxseq.config import load_config
from voxseq.plan import build_plan
from voxseq.plan.data import read_subjects
from voxseq.report.writers import to_html
from voxseq.sequences import exclusion
from voxseq.sequences.exclusion import (
    LISTED,
    OWN_LISTS,
    PERSON,
    PICTURE,
    REASONS,
    SUBJECT,
    VOXELS,
    select,
)


def selected(
    folder: Path,
    sources: dict[str, list[Image]],
    tasks: dict[str, list[Image]],
    lists: dict[str, list[str]] | None = None,
) -> exclusion.Selection:
    """Write stores and indexes, and divide the images of the sources."""
    inputs = {}
    for name, images in sources.items():
        inputs[f"preprocess/source/{name}"] = write_store(folder / "store" / name, name, images)
    for name, images in {**sources, **tasks}.items():
        inputs[f"download/{name}"] = write_download(folder / "download" / name, name, images)
    return select(inputs, sorted(sources), lists or {})


def reasons(selection: exclusion.Selection) -> dict[str, tuple[str, str]]:
    """volume id → reason and the held-out image behind it."""
    table = selection.excluded
    return {
        name: (reason, held_out)
        for name, reason, held_out in zip(
            table["volume_id"], table["reason"], table["held_out"], strict=True
        )
    }


def smooth(seed: int) -> np.ndarray:
    """A picture whose boxes tell it apart."""
    coarse = np.random.default_rng(seed).normal(0, 300, (7, 6, 7))
    return np.kron(coarse, np.ones((2, 2, 2)))[:14, :12, :13].astype(np.float32)


def test_every_reason_is_given_with_the_image_behind_it(tmp_path: Path) -> None:
    secret, other = smooth(1), smooth(2)
    sources = {
        "amos22": [
            Image("listed", noise(1), split="test"),
            Image("voxels", secret),
            Image("picture", other * 0.5 + 3),
            Image("picture", noise(2), image="second"),
            Image("named", noise(3)),
            Image("free", noise(4)),
            Image("tested", noise(5), image="first"),
        ],
    }
    tasks = {
        "la": [
            Image("t", secret, split="test"),
            Image("v", other, split="val"),
            Image("free", noise(7), split="test"),  # another person of the same name
        ],
        "amos22": [*sources["amos22"], Image("tested", noise(6), split="test")],
    }
    chosen = selected(tmp_path, sources, tasks, {"amos22": ["named", "nobody"]})
    assert reasons(chosen) == {
        "amos22/listed/scan": (OWN_LISTS, ""),
        "amos22/voxels/scan": (VOXELS, "la/t/scan"),
        "amos22/picture/scan": (PICTURE, "la/v/scan"),
        "amos22/picture/second": (PERSON, "la/v/scan"),
        "amos22/named/scan": (LISTED, ""),
        "amos22/tested/first": (SUBJECT, "amos22/tested/scan"),
    }
    assert {r for r, _ in reasons(chosen).values()} == set(REASONS)
    assert chosen.volumes["volume_id"].tolist() == ["amos22/free/scan"]
    assert chosen.volumes["row"].tolist() == [5], "a row keeps its number in the store"
    table = chosen.excluded.set_index("volume_id")
    assert table.loc["amos22/picture/scan", "correlation"] > 0.99
    assert table["correlation"].notna().sum() == 1
    assert chosen.record["excluded"] == {"amos22": dict.fromkeys(REASONS, 1)}
    assert chosen.record["volumes"] == {"amos22": 7}
    assert chosen.record["lists"] == {"amos22": {"subjects": 2, "found": 1}}
    assert chosen.record["held_out"] == 5


#: What was done to the copy in the source.
CHANGES = {
    "the same": np.copy,
    "scaled": lambda a: a * 0.25 - 100,
    "with noise": lambda a: a + np.random.default_rng(0).normal(0, 10, a.shape),
    "rounded": lambda a: a.round(-1),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_an_altered_copy_of_a_test_image_is_excluded(tmp_path: Path, kind: str) -> None:
    task = [Image(f"t{i}", smooth(i), split="test") for i in range(3)]
    copy = CHANGES[kind](smooth(1)).astype(np.float32)
    sources = {"amos22": [Image("copy", copy), Image("free", smooth(9))]}
    chosen = selected(tmp_path, sources, {"la": task})
    expected = VOXELS if kind == "the same" else PICTURE
    assert reasons(chosen) == {"amos22/copy/scan": (expected, "la/t1/scan")}


def test_a_copy_of_a_training_image_may_serve(tmp_path: Path) -> None:
    sources = {"amos22": [Image("copy", smooth(1) + 1)]}
    chosen = selected(tmp_path, sources, {"la": [Image("t", smooth(1))]})
    assert reasons(chosen) == {}
    assert len(chosen.volumes) == 1


def test_an_image_of_another_size_is_no_copy(tmp_path: Path) -> None:
    task = [Image("t", smooth(1), split="test")]
    longer = np.repeat(smooth(1), 2, axis=2)
    chosen = selected(tmp_path, {"amos22": [Image("zoomed", longer)]}, {"la": task})
    assert reasons(chosen) == {}


def test_the_first_reason_that_holds_is_given(tmp_path: Path) -> None:
    """Own lists before subjects before voxels before the user's lists."""
    secret = smooth(1)
    images = [Image("a", secret, split="test"), Image("b", secret)]
    lists = {"amos22": ["a", "b"]}
    chosen = selected(
        tmp_path, {"amos22": images}, {"la": [Image("t", secret, split="val")]}, lists
    )
    assert [reason for reason, _ in reasons(chosen).values()] == [OWN_LISTS, VOXELS]


def test_excluded_images_give_no_sequence(tmp_path: Path) -> None:
    copy = smooth(1) * 2
    sources = {**SOURCES, "amos22": [Image("copy", copy), Image("free", noise(1))]}
    task = {"la": [Image("t", smooth(1), split="test")]}
    out, _ = build_index(tmp_path, config(), sources, task)
    assert set(pd.read_parquet(out / "spatial.parquet")["row"]) == {1}
    table = pd.read_csv(out / "excluded.csv")
    assert list(table.columns) == list(exclusion.COLUMNS)
    assert table["held_out"].tolist() == ["la/t/scan"]
    assert read_json(out / "exclusion.json")["excluded"] == {"amos22": {PICTURE: 1}}
    assert read_json(out / "summary.json")["excluded"] == 1


# Lists by configuration


def test_the_content_of_a_list_decides_and_not_its_name(root: Path, tmp_path: Path) -> None:
    def plan(*lines: str, name: str = "a.txt") -> Any:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines))
        overlay = {"sequences": {"exclude": {"flare22": str(path)}}}
        return build_plan(load_config(root / "params.yaml", [overlay]))

    without = build_plan(load_config(root / "params.yaml"))
    one, same, other = plan("b", "a"), plan("a", "b", "b", name="b.txt"), plan("a")
    run = "sequences/all/s0"
    assert without.runs[run].config.exclude == {}
    assert one.runs[run].config.exclude == {"flare22": ("a", "b")}
    assert {n: r.fingerprint for n, r in one.runs.items()} == {
        n: r.fingerprint for n, r in same.runs.items()
    }
    assert one.runs[run].fingerprint != other.runs[run].fingerprint
    assert one.runs[run].fingerprint != without.runs[run].fingerprint
    # Where nothing is read but the lists, nothing changes.
    assert one.runs["preprocess/source/flare22/s0"] == without.runs["preprocess/source/flare22/s0"]
    assert one.runs["pretrain/ours/s0"].config == without.runs["pretrain/ours/s0"].config


LISTS = {
    "one a line": ("b\n\n# a remark\n a \nb\n", ["a", "b"]),
    "a table": ("case,subject,source\n1,b,msd\n2,a,kits\n", ["a", "b"]),
    "a table without the name": ("a,msd\nb,kits\n", ["a", "b"]),
    "a byte order mark": ("\ufeffsubject\r\na\r\nb\r\n", ["a", "b"]),
    "short rows": ("n,subject\n1,a\n2\n3,b\n", ["a", "b"]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_files_of_subjects(tmp_path: Path, kind: str) -> None:
    content, expected = LISTS[kind]
    (tmp_path / "x").write_bytes(content.encode())
    assert read_subjects("flare22", str(tmp_path / "x")) == expected


@pytest.mark.parametrize("content", [None, b"", b"# nobody\n", b"subject\n", b"\xff\xfe\x00"])
def test_a_list_that_cannot_be_read_is_an_error_of_the_configuration(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "subjects.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_subjects("flare22", str(path))
    assert "sequences.exclude.flare22" in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.hint


def test_a_list_for_a_data_set_that_is_no_source_is_refused(root: Path) -> None:
    overlay = {"sequences": {"exclude": {"task09_spleen": "x"}}}
    with pytest.raises(ConfigError, match=r"exclude names task09_spleen, which sources lacks"):
        load_config(root / "params.yaml", [overlay])


# The report


def test_the_report_counts_by_reason_and_data_set(tmp_path: Path) -> None:
    sources = {"amos22": [Image("copy", smooth(1) * 2), Image("free", noise(1))]}
    chosen = selected(tmp_path, sources, {"la": [Image("t", smooth(1), split="test")]})
    page = to_html("exclusion.html", exclusion=chosen.record)
    assert "1 of 2 images of the sources are excluded" in page
    assert f"{PICTURE}: 1" in page
    assert "amos22" in page
    nothing = selected(tmp_path / "b", {"amos22": [Image("free", noise(1))]}, {})
    assert "0 of 1 images" in to_html("exclusion.html", exclusion=nothing.record)
    assert "amos22" not in to_html("exclusion.html", exclusion=nothing.record)
    assert "pre-trains nothing" in to_html("exclusion.html", exclusion={})


def test_a_list_that_names_strangers_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = {"amos22": [replace(SOURCES["amos22"][0], subject="known")]}
    chosen = selected(tmp_path, sources, {}, {"amos22": ["known", "stranger"]})
    assert "1 of 2 subjects are not in the data set, such as stranger" in caplog.text
    assert "lists 2 subjects of amos22; 1 of them" in to_html(
        "exclusion.html", exclusion=chosen.record
    )
