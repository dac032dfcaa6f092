"""Intensities that are not those of the modality, of the publication, or of the rest of the set."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.helpers import trees
from voxseq.base.errors import DataError
from voxseq.config.data import TaskDataConfig
from voxseq.config.datasets import DataConfig
from voxseq.data.store import VolumeStore
from voxseq.data.verify.check import Usage, verify

Change = Callable[[np.ndarray], np.ndarray]


def body(seed: int = 0, shape: tuple[int, int, int] = (22, 20, 18)) -> np.ndarray:
    """A trunk in air, HU: fat around muscle, a lung and a spine; organs differ by ``seed``."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = np.full(shape, -1000.0)
    image[x**2 + (y / 0.9) ** 2 < 0.85] = -100
    # Smooth organs, so that no two patients are the same picture.
    organs = gaussian_filter(rng.normal(0, 1, shape), 1.5, mode="wrap")
    inside = x**2 + (y / 0.9) ** 2 < 0.5 + 0.1 * rng.random()
    image[inside] = 50 + 60 * (organs / organs.std())[inside]
    lung, spine = rng.uniform(-0.3, 0.3, 3), rng.uniform(-0.2, 0.2)
    image[(x - lung[0]) ** 2 + (y - lung[1]) ** 2 + (z - lung[2]) ** 2 < 0.12] = -820
    image[(x - spine) ** 2 + (y + 0.5) ** 2 < 0.03] = 500
    noisy = image + rng.normal(0, 12, shape)
    return np.rint(np.maximum(noisy, -1024)).astype(np.int16)


def head(seed: int = 0, shape: tuple[int, int, int] = (22, 20, 18)) -> np.ndarray:
    """An MRI of any unit with slightly negative background."""
    brain = (body(seed, shape) + 1000.0) * (body(seed, shape) > -500)
    return (brain + np.random.default_rng(seed).normal(0, 5, brain.shape)).astype(np.float32)


def named(root: Path, *names: str) -> dict[str, str]:
    """File → reason of the warnings about intensities."""
    report = verify(names, root, Usage.of(names, DataConfig(), {}))
    usual = "published images are there|the same picture|not enough for a"
    odd = [f for f in report.findings if not re.search(usual, f.reason)]
    assert all(f.severity == "warning" and f.next for f in odd), odd
    assert len({f.file for f in odd}) == len(odd)
    return {f.file: f.reason for f in odd}


def write_ct(root: Path, count: int, change: Change, changed: int) -> None:
    for number in range(count):
        image = body(number)
        path = root / f"verse20/rawdata/sub-{number}/sub-{number}_ct.nii.gz"
        trees.write_nifti(path, change(image) if number < changed else image)


def padded(value: int) -> Change:
    def change(image: np.ndarray) -> np.ndarray:
        image = image.astype(np.int32)
        image[:2] = value
        return image

    return change


def window(low: float, high: float, scale: float = 1.0) -> Change:
    return lambda image: (np.clip(image, low, high) - low) / (high - low) * scale


#: What was done to a CT, and words of the reason.
NOT_HU: dict[str, tuple[Change, str]] = {
    "1024 added": (lambda a: a + 1024, "stored values .* not Hounsfield"),
    "1000 added": (lambda a: a + 1000, "not Hounsfield"),
    "1024 added, with padding": (lambda a: padded(-1024)(a + 1024), "not Hounsfield"),
    "12 bits": (lambda a: (a + 1024).clip(0, 4095).astype(np.uint16), "not Hounsfield"),
    "0 to 1": (lambda a: (a + 1024) / np.float32(2000), "scaled or normalised, not Hounsfield"),
    "-1 to 1": (lambda a: a / np.float32(1024), "scaled or normalised"),
    "z-scores": (lambda a: (a - a.mean()) / np.float32(a.std()), "scaled or normalised"),
    "divided by 1000": (lambda a: a / np.float32(1000), "scaled or normalised"),
    "8 bits": (lambda a: window(-160, 240, 255)(a).astype(np.uint8), "picture of 8 bits"),
    "a window of 0 to 4095": (window(-160, 240, 4095), "no value below 0"),
}


@pytest.mark.kind("CT that is not in HU")
@pytest.mark.parametrize("changed", [1, 3])
@pytest.mark.parametrize("name", NOT_HU)
def test_a_ct_that_is_not_in_hu_is_named(tmp_path: Path, name: str, changed: int) -> None:
    change, words = NOT_HU[name]
    write_ct(tmp_path, 3, change, changed)
    found = named(tmp_path, "verse20")
    assert len(found) == changed
    assert all(re.search(words, reason) for reason in found.values()), found


@pytest.mark.kind("CT of another zero or scale than the rest")
@pytest.mark.parametrize(
    "change", [lambda a: a * 0.5, lambda a: a + 500, lambda a: a / 10, NOT_HU["1024 added"][0]]
)
def test_a_ct_far_from_the_others_is_named(tmp_path: Path, change: Change) -> None:
    write_ct(tmp_path, 10, change, 3)
    assert sorted(named(tmp_path, "verse20")) == [
        f"verse20/rawdata/sub-{n}/sub-{n}_ct.nii.gz" for n in range(3)
    ]


@pytest.mark.kind("padding, or numbers that wrapped at the end of 16 bits")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (padded(-2000), "9% of the voxels lie below -1200 HU, half of these at -2000"),
        (padded(-3024), "at -3024"),
        (padded(-32768), "at -32768"),
        (padded(62_512), "lie above 32,000, half of these at 62512"),
        (padded(65_535), "at 65535"),
        (lambda a: a.astype(np.uint16), "wrapped to the end of 16 bits"),
        (lambda a: (a * 40).astype(np.int16), "below -1200 HU"),
    ],
)
def test_padding_and_wrapped_numbers_are_named(tmp_path: Path, change: Change, words: str) -> None:
    write_ct(tmp_path, 2, change, 1)
    (reason,) = named(tmp_path, "verse20").values()
    assert re.search(words, reason), reason


def metal(image: np.ndarray) -> np.ndarray:
    image[9:11, 9:11, 9:11] = 30_000
    return image


#: What is done to a CT that stays one.
STILL_HU: dict[str, Change] = {
    "as it is": lambda a: a,
    "float": lambda a: a.astype(np.float32) + np.float32(0.25),
    "air at -1000": lambda a: a.clip(-1000),
    "an organ without air": lambda a: a[8:14, 9:14, 5:13].clip(-150),
    "a window for brains": lambda a: a.clip(0, 80),
    "a window for abdomens": lambda a: a.clip(-160, 240),
    "metal": metal,
    "some values below air": lambda a: np.where(np.indices(a.shape).sum(0) == 2, -1207, a),
    "bone alone": lambda a: (
        np.random.default_rng(int(a.sum()) % 99).normal(700, 350, a.shape).clip(-150)
    ),
    "masked": lambda a: np.where(a < -500, -1024, a),
}


@pytest.mark.kind("CT cut, clipped or with metal")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", STILL_HU)
def test_nothing_is_said_of_a_ct_in_hu(tmp_path: Path, name: str, count: int) -> None:
    write_ct(tmp_path, count, lambda a: np.asarray(STILL_HU[name](a), np.float32), count)
    assert named(tmp_path, "verse20") == {}


@pytest.mark.kind("stored values of other zeros in one data set")
@pytest.mark.parametrize(
    ("zeros", "odd"),
    [
        ([1024, 1024, 1024, 0, 1024], [3]),
        ([1024, 1024, 1000, 15_000, 1024], [3]),
        ([1024, 0, 0, 8192, 0], [0, 3]),
        ([1024, 0, 1024, 0], [0, 1, 2, 3]),
        ([1024, 1000, 1024, 1024], []),
    ],
)
def test_series_whose_intercepts_differ_are_named(
    tmp_path: Path, zeros: list[int], odd: list[int]
) -> None:
    series = []
    for number, zero in enumerate(zeros):
        signed = {"PixelRepresentation": 1, "RescaleIntercept": -zero}
        image = body(number)[:, :, :6].astype(np.int32) + zero
        patient = f"1A-419-00000{number}"
        split = ("train", "val", "test")[min(number, 2)]
        series.append((split, number % 2, image, patient, signed))
    trees.ricord(tmp_path, series)
    found = named(tmp_path, "ricord")
    assert sorted(found) == [f"ricord/any/place{n}" for n in odd]
    assert all("their rescale intercepts differ" in reason for reason in found.values())


@pytest.mark.kind("images not normalised as published")
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a,
        lambda a: a / a.max(),
        lambda a: a * 2 / a.max() - 1,
        lambda a: (a - a.mean()) / a.std() * 100,
        lambda a: a.clip(0, 255),
    ],
)
def test_an_atrium_that_is_no_z_score_is_named(tmp_path: Path, change: Change) -> None:
    folder = trees.la(tmp_path, ["A" * 20, "B" * 20, "C" * 20], ["D" * 20])
    for number, path in enumerate(sorted(folder.rglob("*.h5"))):
        with h5py.File(path, "r+") as file:
            raw = head(number).clip(0)
            # As published: z-scored, then cut to the atrium.
            published = 1.2 * (raw - raw.mean()) / raw.std() + 0.4
            del file["image"], file["label"]
            file["image"] = (change(raw) if number == 1 else published).astype(np.float32)
            file["label"] = trees.label(raw.shape)
    ((file, reason),) = named(tmp_path, "la").items()
    assert "B" * 20 in file
    assert "not normalised as published: mean" in reason


@pytest.mark.parametrize(
    ("splits", "change"),
    [
        (["val"], lambda a: a / np.float32(255)),
        (["train", "val", "test"], lambda a: a / np.float32(255)),
        (["train"], lambda a: a.astype(np.uint16) * 257),
        (["test"], lambda a: a / np.float32(127.5) - 1),
    ],
)
def test_nodules_of_another_range_are_named_once_for_their_file(
    tmp_path: Path, splits: list[str], change: Change
) -> None:
    sizes = {"train": 6, "val": 2, "test": 4}
    path = trees.nodule(tmp_path, sizes) / "nodulemnist3d.npz"
    assert named(tmp_path, "nodule") == {}
    arrays = dict(np.load(path))
    for split in splits:
        arrays[f"{split}_images"] = change(arrays[f"{split}_images"])
    np.savez(path, **arrays)
    reason = named(tmp_path, "nodule")["nodule/nodulemnist3d.npz"]
    count = sum(sizes[split] for split in splits)
    assert reason.startswith(f"{count} of its 12 images, such as nodule/{splits[0]}0000/nodule")
    assert "where 0 to 255 are published" in reason


@pytest.mark.kind("MRI of another scale than the rest")
@pytest.mark.parametrize(
    ("change", "is_odd"),
    [
        (lambda a: (a - a.mean()) / a.std(), True),
        (lambda a: a / a.max(), True),
        (lambda a: a.astype(np.int64).astype(np.uint16), True),
        (lambda a: a * 1e5, True),
        (lambda a: a / 8, False),
        (lambda a: a * 40, False),
    ],
)
def test_an_mri_of_another_scale_is_named(tmp_path: Path, change: Change, is_odd: bool) -> None:
    for number in range(4):
        path = tmp_path / f"amos22/imagesTr/amos_050{number + 1}.nii.gz"
        trees.write_nifti(path, change(head(number)) if number == 2 else head(number))
    assert list(named(tmp_path, "amos22")) == ["amos22/imagesTr/amos_0503.nii.gz"] * is_odd


# Prepared images


def write_spleens(root: Path, changed: dict[str, np.ndarray]) -> None:
    names = [f"spleen_{n}" for n in range(10)]
    folder = trees.msd(root, names)
    for number, name in enumerate(names):
        image = body(number)[6:15, 6:14, 5:12]
        trees.write_nifti(folder / f"imagesTr/{name}.nii.gz", changed.get(name, image))


BLACK = np.where(np.indices((9, 8, 7)).sum(0) % 3, -900, -1000).astype(np.int16)
WINDOW = {"window": [-57, 175], "foreground_crop": False}


@pytest.mark.kind("an image that shows nothing as it is prepared")
@pytest.mark.parametrize(
    "image", [BLACK, BLACK + 2900, np.where(BLACK == -900, BLACK, BLACK + 3000)]
)
def test_an_image_at_the_edges_of_the_window_is_set_aside(
    tmp_path: Path, image: np.ndarray
) -> None:
    root = tmp_path / "data"
    write_spleens(root, {"spleen_3": image})
    trees.run_download(root, tmp_path, "task09_spleen", trees.SEGMENTATION)
    out = trees.run_preprocess(root, tmp_path, "task09_spleen", WINDOW)
    ((name, reason),) = trees.set_aside(out).items()
    assert name == "task09_spleen/spleen_3/image"
    assert re.search("window -57 to 175|every voxel has one value", reason)
    store = VolumeStore(out)
    assert len(store) == 9
    # The files follow the rows.
    for index, subject in enumerate(store.table.to_pandas()["subject"]):
        number = int(subject.removeprefix("spleen_"))
        first = store.image(index)[0, 0, 0]
        assert first == pytest.approx(np.clip((body(number)[6, 6, 5] + 57) / 232, 0, 1), abs=1e-6)
    data = TaskDataConfig.model_validate(WINDOW)
    usage = Usage.of(["task09_spleen"], DataConfig(), {}, recipes={"task09_spleen": data})
    report = verify(["task09_spleen"], root, usage)
    assert [f.file for f in report.findings if "the task's window -57 to 175" in f.reason] == [
        "msd/Task09_Spleen/imagesTr/spleen_3.nii.gz"
    ]


def test_a_window_that_fits_few_images_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_spleens(root, {f"spleen_{n}": body(n)[6:15, 6:14, 5:12] + 3000 for n in range(6)})
    trees.run_download(root, tmp_path, "task09_spleen", trees.SEGMENTATION)
    with pytest.raises(DataError, match="6 of 10 images are set aside, such as imagesTr/spleen_0"):
        trees.run_preprocess(root, tmp_path, "task09_spleen", WINDOW)
