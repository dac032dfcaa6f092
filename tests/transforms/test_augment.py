from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import (
    AdjustContrast,
    Flip,
    RandGaussianNoise,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
    Rotate90,
    Transform,
)
from numpy.random import RandomState

from voxseq.base.errors import ConfigError
from voxseq.base.random import numpy_generator
from voxseq.transforms.augment import (
    Augmentation,
    Step,
    build_augmentation,
    la_steps,
    msd_steps,
)

SHAPE = (12, 12, 8)
NAMES = ("msd", "la", "unflipped", "nodule", "none")


def crop(seed: int = 0, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, SHAPE).astype(np.uint8)
    return (label + rng.uniform(-0.2, 0.2, (channels, *SHAPE))).astype(np.float32), label


def always(steps: list[Step]) -> list[Step]:
    return [replace(step, probability=1.0) for step in steps]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_chain_is_a_function_of_its_stream_and_leaves_its_input(name: str, channels: int) -> None:
    image, label = crop(channels=channels)
    image.setflags(write=False)
    label.setflags(write=False)
    first, second = build_augmentation(name, SHAPE), build_augmentation(name, SHAPE)
    # The second chain has another past, which must not matter.
    second(image, label, numpy_generator(9))
    for number in range(30):
        new_image, new_label = first(image, label, numpy_generator(0, "crop", number))
        again = second(image, label, numpy_generator(0, "crop", number))
        np.testing.assert_array_equal(new_image, again[0])
        np.testing.assert_array_equal(new_label, again[1])
        alone = first.image(image, numpy_generator(0, "crop", number))
        np.testing.assert_array_equal(alone, new_image)
        assert (new_image.dtype, new_label.dtype) == (np.float32, np.uint8)
        assert (new_image.shape, new_label.shape) == ((channels, *SHAPE), SHAPE)
        assert np.isfinite(new_image).all()
        assert set(np.unique(new_label)) <= {0, 1, 2}
    np.testing.assert_array_equal(image, crop(channels=channels)[0])


@pytest.mark.parametrize("name", ["msd", "la", "unflipped", "nodule"])
def test_chain_is_its_steps_one_after_the_other_to_the_bit(name: str) -> None:
    """Each step gets what the one before gave; the label only moves."""
    chain = build_augmentation(name, SHAPE)
    image, label = crop()
    for probability in (1.0, 0.5):
        steps = [replace(step, probability=probability) for step in chain.steps]
        for number in range(12):
            rng = numpy_generator(2, number)
            state = RandomState(rng.integers(2**32, dtype=np.uint32))
            data = torch.from_numpy(np.stack([*image, label.astype(np.float32)]))
            for step in steps:
                if state.uniform() >= step.probability:
                    continue
                if step.move:
                    data = step.move(data, state, 1)
                else:
                    data = torch.cat([step.change(data[:1].clone(), state), data[1:]])
            found = Augmentation(steps)(image, label, numpy_generator(2, number))
            np.testing.assert_array_equal(found[0], data[:1].numpy())
            np.testing.assert_array_equal(found[1], data[1].numpy())


def test_channels_move_together_and_each_is_changed_by_itself() -> None:
    image, label = crop(channels=3)
    image[:] = image[:1]
    apart = 0
    for number in range(30):
        rng = numpy_generator(3, number)
        moves = [step for step in la_steps() if step.move]
        moved, moved_label = Augmentation(moves)(image, label, numpy_generator(3, number))
        np.testing.assert_array_equal(moved[1:], moved[:-1])
        assert moved_label.dtype == np.uint8
        changes = [step for step in msd_steps() if step.change]
        changed, same_label = Augmentation(always(changes))(image, label, rng)
        np.testing.assert_array_equal(same_label, label)
        apart += not np.array_equal(changed[0], changed[1])
    assert apart == 30


@pytest.mark.parametrize("name", ["msd", "nodule"])
def test_label_follows_the_image(name: str) -> None:
    image, label = crop()
    steps = [s for s in build_augmentation(name, SHAPE).steps if s.move]
    chain = Augmentation(steps)
    moved = 0
    for number in range(30):
        new_image, new_label = chain(image, label, numpy_generator(2, number))
        np.testing.assert_array_equal(np.round(new_image[0]), new_label)
        moved += not np.array_equal(new_label, label)
    assert moved > 5


def test_flips_and_quarter_turns_are_monais() -> None:
    data = torch.rand(2, *SHAPE)
    for axis, step in enumerate(build_augmentation("nodule", SHAPE).steps):
        expected = Flip(axis)(data).as_tensor()
        torch.testing.assert_close(step.move(data, RandomState(0), 1), expected, rtol=0, atol=0)
    options = [Rotate90(k, (0, 1))(data).as_tensor() for k in (1, 2, 3)]
    for seed in range(6):
        turned = msd_steps()[3].move(data, RandomState(seed), 1)
        assert sum(torch.equal(turned, option) for option in options) == 1


@pytest.mark.parametrize(
    ("number", "theirs"),
    [
        (1, RandGaussianNoise(1.0, std=0.1)),
        (5, RandScaleIntensityFixedMean(1.0, 0.25, preserve_range=True)),
        (6, RandSimulateLowResolution(1.0, downsample_mode="nearest-exact", zoom_range=(0.5, 1))),
    ],
)
def test_changes_of_intensities_are_monais(number: int, theirs: Transform) -> None:
    for seed in range(5):
        data = torch.from_numpy(crop(seed)[0])
        theirs.set_random_state(state=RandomState(seed))
        expected = theirs(data).as_tensor()
        state = RandomState(seed)
        # Theirs draws whether to act at all, even when it always does.
        state.uniform()
        torch.testing.assert_close(la_steps()[number].change(data, state), expected)
        assert not torch.equal(expected, data)


def test_gamma_is_monais() -> None:
    gamma, sides = la_steps()[7], set()
    for seed in range(8):
        data = torch.from_numpy(crop(seed)[0])
        drawn = RandomState(seed)
        limits = (0.7, 1.0) if drawn.uniform() < 0.5 else (1.0, 1.5)
        sides.add(limits)
        expected = AdjustContrast(drawn.uniform(*limits), retain_stats=True)(data).as_tensor()
        torch.testing.assert_close(gamma.change(data, RandomState(seed)), expected)
    assert len(sides) == 2


def test_quarter_turns_have_equal_chances() -> None:
    turns = msd_steps()[3]
    data = torch.zeros(1, 3, 3, 1)
    data[0, 0, 1] = 1.0
    state = RandomState(0)
    places = [int(turns.move(data, state, 1).flatten().argmax()) for _ in range(600)]
    counts = np.bincount(places, minlength=9)
    assert counts[1] == 0
    assert all(160 < counts[place] < 240 for place in (3, 5, 7))


def test_steps_are_applied_with_their_probability() -> None:
    calls = np.zeros(2)

    def count(index: int) -> Step:
        def apply(data: torch.Tensor, state: RandomState) -> torch.Tensor:
            calls[index] += 1
            return data

        return Step((0.2, 0.75)[index], change=apply)

    chain = Augmentation([count(0), count(1)])
    image, label = crop()
    for number in range(2000):
        chain(image, label, numpy_generator(number))
    np.testing.assert_allclose(calls / 2000, [0.2, 0.75], atol=0.03)


def test_probabilities_are_the_published_ones() -> None:
    assert [s.probability for s in msd_steps()] == [0.2, 0.2, 0.2, 0.2, 0.1, 0.1]
    la = [s.probability for s in la_steps()]
    assert la == [1.0, 0.1, 0.1, 0.15, 0.075, 0.15, 0.125, 0.15, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("name", "keeps"), [("unflipped", True), ("la", False)])
def test_left_stays_left_without_flips(name: str, keeps: bool) -> None:
    image = np.zeros((1, *SHAPE), np.float32)
    half = SHAPE[0] // 2
    image[:, :half] = 1.0
    chain = build_augmentation(name, SHAPE)
    made = [chain.image(image, numpy_generator(4, number)) for number in range(20)]
    assert all(one[:, :half].mean() > one[:, half:].mean() for one in made) == keeps


def test_scale_and_shift_stay_in_their_ranges() -> None:
    scale, shift = (step.change for step in msd_steps()[4:])
    data = torch.full((1, 2, 2, 2), 2.0)
    state = RandomState(0)
    scales = [float(scale(data, state)[0, 0, 0, 0]) / 2 for _ in range(300)]
    shifts = [float(shift(data, state)[0, 0, 0, 0]) - 2 for _ in range(300)]
    np.testing.assert_allclose([min(scales), max(scales)], [0.9, 1.1], atol=0.005)
    np.testing.assert_allclose([min(shifts), max(shifts)], [-0.1, 0.1], atol=0.005)


def test_intensity_steps_keep_what_they_promise() -> None:
    steps = la_steps()
    data = torch.from_numpy(crop()[0])
    contrast, low_resolution, gamma = (steps[i].change(data, RandomState(1)) for i in (5, 6, 7))
    assert contrast.min() >= data.min()
    assert contrast.max() <= data.max()
    torch.testing.assert_close(gamma.mean(), data.mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(gamma.std(), data.std(), rtol=1e-3, atol=1e-4)
    assert low_resolution.shape == data.shape
    blurred = steps[2].change(data, RandomState(1))
    assert 0 < blurred.std() < data.std()


def test_every_step_at_once_survives_a_constant_crop() -> None:
    chain = Augmentation(always(la_steps()))
    image, label = np.zeros((2, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8)
    for number in range(5):
        new_image, _ = chain(image, label, numpy_generator(number))
        assert np.isfinite(new_image).all()


def test_unknown_or_impossible_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown augmentation 'mst'"):
        build_augmentation("mst", SHAPE)
    with pytest.raises(ConfigError, match="equal first axes"):
        build_augmentation("msd", (12, 8, 12))


def ball(shape: tuple[int, int, int], centre: np.ndarray, radius: float) -> np.ndarray:
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    inside: np.ndarray = np.linalg.norm(places - centre, axis=-1) <= radius
    return inside.astype(np.float32)


def centre_of_the_bright(image: torch.Tensor) -> np.ndarray:
    values = image.numpy()
    return np.argwhere(values > (values.min() + values.max()) / 2).mean(axis=0)


INTENSITY = [i for i, step in enumerate(la_steps()) if step.change]


@pytest.mark.parametrize("number", INTENSITY)
def test_what_leaves_the_label_in_place_leaves_the_content_in_place(number: int) -> None:
    """Published: 0.06 voxel on average, by the low resolution."""
    step = la_steps()[number]
    shape, shifts = (33, 31, 27), []
    for seed in range(40):
        state = RandomState(seed)
        image = ball(shape, state.uniform(10, np.array(shape) - 11), 5.0)
        data = torch.from_numpy(image)[None]
        made = step.change(data.clone(), state)
        shifts.append(centre_of_the_bright(made[0]) - centre_of_the_bright(data[0]))
    assert np.abs(shifts).mean(axis=0).max() < 0.15


def test_half_of_the_gammas_are_below_one() -> None:
    """Published; uniform over the range they would be 3 of 8."""
    gamma = la_steps()[7]
    ramp = torch.linspace(0.0, 1.0, 101).reshape(1, 101, 1, 1)
    state = RandomState(0)
    # The median falls below the mean where gamma is above 1.
    made = [gamma.change(ramp, state) for _ in range(600)]
    below = [bool(m.median() > m.mean()) for m in made]
    assert 0.44 < np.mean(below) < 0.56
