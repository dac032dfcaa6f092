"""Intensity ranges in the index: those of the crops as they are read, whoever computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.sequence_store import (
    CONTRASTS,
    SOURCES,
    Image,
    build_index,
    config,
    index_context,
    noise,
    ramp,
)
from voxseq.sequences import build, ranges
from voxseq.sequences.boxes import BOX, centred_boxes
from voxseq.transforms.spatial import resize

#: Real numbers, whole numbers, a thin volume, a constant one; lesions that are resized.
IMAGES: dict[str, list[Image]] = {
    "amos22": [
        Image("whole", noise(1)),
        Image("real", noise(2).astype(np.float32) / np.float32(7)),
        Image("thin", noise(3, (14, 12, 5))),
        Image("constant", np.full((12, 12, 12), -3, np.int16)),
    ],
    "brats23": [
        Image("p", noise(i, (14, 12, 13)) / np.float32(3), image=c, contrast=c, group="p")
        for i, c in enumerate(CONTRASTS)
    ],
    "deeplesion": [
        Image(f"c{i}", noise(i, (10, 10, 3 + i)), label=1, centre=(3 + i, 5)) for i in range(6)
    ],
}
#: Single images have the shape of a window, which is deeper than the volume of a sequence.
SEQUENCES = config(spatial={"window_shape": (8, 8, 9), "crop_shape": (8, 8, 9)})
START, EXTENT = list(BOX[:3]), list(BOX[3:])
NAMES = ("spatial", "contrast", "semantic_items", "semantic")


def read(folder: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in NAMES}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return read(build_index(tmp_path_factory.mktemp("ranges"), SEQUENCES, IMAGES)[0])


def expected(image: Image, start: Any, extent: Any, shape: tuple[int, int, int]) -> list[float]:
    box = tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))
    crop = resize(image.array[box], shape)
    return [float(end) for end in np.percentile(crop, SEQUENCES.percentiles)]


def ends(row: pd.Series, prefix: str = "", suffix: str = "") -> list[float]:
    return [row[f"{prefix}{end}{suffix}"] for end in ("low", "high")]


@pytest.mark.parametrize(
    ("table", "source", "part"),
    [("spatial", "amos22", (8, 8, 9)), ("semantic_items", "deeplesion", (8, 8, 2))],
)
def test_ranges_are_the_percentiles_of_the_resized_crop(
    index: dict[str, pd.DataFrame], table: str, source: str, part: tuple[int, int, int]
) -> None:
    for _, row in index[table].iterrows():
        image, start, extent = IMAGES[source][int(row["row"])], row[START], row[EXTENT]
        box = [int(n) for n in start], [int(n) for n in extent]
        assert ends(row) == expected(image, *box, part)
        assert ends(row, "image_") == expected(image, *box, SEQUENCES.image_shape)
    assert index[table][["low", "high", "image_low", "image_high"]].dtypes.eq("float64").all()
    # Of a series the single image is the window itself.
    differ = (index[table]["low"] != index[table]["image_low"]).any()
    assert differ == (table != "spatial")


def test_every_contrast_has_its_own_ranges(index: dict[str, pd.DataFrame]) -> None:
    for _, row in index["contrast"].iterrows():
        start, extent = ([int(n) for n in row[names]] for names in (START, EXTENT))
        for i in range(4):
            image = IMAGES["brats23"][int(row[f"row_{i}"])]
            box, shape = np.array([[*start, *extent]]), np.array([image.array.shape])
            (wide,) = centred_boxes(box, (8, 8, 9), shape).tolist()
            assert ends(row, suffix=f"_{i}") == expected(image, start, extent, (8, 8, 2))
            assert ends(row, "image_", f"_{i}") == expected(
                image, wide[:3], wide[3:], SEQUENCES.image_shape
            )


def test_a_constant_crop_has_equal_ends(index: dict[str, pd.DataFrame]) -> None:
    constant = index["spatial"][index["spatial"]["row"] == 3]
    assert len(constant) == 6
    assert constant[["low", "high", "image_low", "image_high"]].eq(-3).all(axis=None)


def test_draws_of_lesions_have_no_ranges_of_their_own(index: dict[str, pd.DataFrame]) -> None:
    assert not [name for name in index["semantic"] if "low" in name]


@pytest.mark.slow
def test_processes_change_no_byte(tmp_path: Path) -> None:
    bytes_of = []
    for workers in (0, 2):
        out, _ = build_index(tmp_path / str(workers), SEQUENCES, IMAGES, workers=workers)
        bytes_of.append({path.name: path.read_bytes() for path in out.glob("*.parquet")})
    assert bytes_of[0] == bytes_of[1]


def test_a_stopped_run_goes_on_with_the_next_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, seen = ranges.measure, []

    def stopping(percentiles: tuple[float, float], crops: ranges.VolumeCrops) -> Any:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append((crops.folder.name, crops.row))
        return measure(percentiles, crops)

    monkeypatch.setattr(ranges, "measure", stopping)
    context = index_context(tmp_path / "stopped", SEQUENCES, SOURCES)
    with pytest.raises(KeyboardInterrupt):
        build.execute(context)
    before, seen[:] = seen[:], []
    monkeypatch.setattr(
        ranges, "measure", lambda *given: (seen.append(given[1].row), measure(*given))[1]
    )
    build.execute(context)
    assert len(before) == 3
    assert len(before) + len(seen) == sum(map(len, SOURCES.values()))
    straight, _ = build_index(tmp_path / "straight", SEQUENCES, SOURCES)
    for path in straight.glob("*.parquet"):
        assert (context.out / path.name).read_bytes() == path.read_bytes()


def test_crops_that_are_alike_are_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume smaller than the crop, whose boxes are all the same; shapes that are equal."""
    asked = []
    found = ranges.intensity_range
    monkeypatch.setattr(
        ranges, "intensity_range", lambda *given: (asked.append(1), found(*given))[1]
    )
    lesions = [Image(f"c{i}", ramp(i % 4), label=1, centre=(4, 4)) for i in range(4)]
    sources = {**IMAGES, "amos22": [Image("small", noise(0, (6, 7, 8)))], "deeplesion": lesions}
    build_index(tmp_path, config(contrast={"crops_per_subject": 1}), sources)
    # One crop of the volume; of each contrast and each lesion one as a patch, one as an image.
    assert len(asked) == 1 + 2 * 4 + 2 * 4
