"""Predicting the files of a run's test split gives the scores of the run."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.helpers.finetune_store import table
from tests.helpers.trained import AFFINE, Trained
from voxseq.base.errors import ConfigError, DataError
from voxseq.data.readers import nifti
from voxseq.evaluation.dice import dice_per_class
from voxseq.predict.model import Options, TrainedModel
from voxseq.predict.results import Classification, Regression, Segmentation


def test_segmented_files_have_the_dice_of_the_run(trained: dict[str, Trained]) -> None:
    given = trained["segmentation"]
    model = TrainedModel.load(given.folder)
    scores = {
        (r["case"], r["label"]): float(r["value"]) for r in table(given.folder / "scores.csv")
    }
    files = sorted(given.images.iterdir())
    assert files
    for path in files:
        found = model.predict(path)
        assert isinstance(found, Segmentation)
        truth = np.asarray(nibabel.load(given.labels / path.name).dataobj)
        dice = dice_per_class(found.labels, truth, 2)
        case = path.name.removesuffix(".nii.gz")
        for label, value in zip(found.names, dice, strict=True):
            assert value == pytest.approx(scores[case, label], abs=1e-6)


def test_classified_files_have_the_probabilities_of_the_run(trained: dict[str, Trained]) -> None:
    given = trained["classification"]
    model = TrainedModel.load(given.folder)
    for line in table(given.folder / "predictions.csv"):
        found = model.predict(given.images / f"{line['case']}.nii.gz")
        assert isinstance(found, Classification)
        expected = [float(line[f"probability_{name}"]) for name in found.names]
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
        assert found.label == found.names[int(np.argmax(expected))]


def test_numbers_of_files_are_those_of_the_run(trained: dict[str, Trained]) -> None:
    given = trained["regression"]
    model = TrainedModel.load(given.folder)
    for line in table(given.folder / "predictions.csv"):
        found = model.predict(given.images / f"{line['case']}.nii.gz")
        assert isinstance(found, Regression)
        assert found.value == pytest.approx(float(line["value"]), rel=1e-6)
        assert (found.target, found.unit) == ("brightness", "HU")


def test_an_image_may_come_in_several_forms(trained: dict[str, Trained], tmp_path: Path) -> None:
    given = trained["segmentation"]
    model = TrainedModel.load(given.folder)
    path = sorted(given.images.iterdir())[0]
    expected = model.predict(path)
    assert isinstance(expected, Segmentation)
    other = tmp_path / "image.mha"
    sitk.WriteImage(sitk.ReadImage(str(path)), str(other))
    for image in ([path], nibabel.load(path), nifti.read(path.parent, path.name), other):
        found = model.predict(image)
        assert isinstance(found, Segmentation)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.place.affine, AFFINE, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members(
    trained: dict[str, Trained], ensemble: list[Path]
) -> None:
    path = sorted(trained["segmentation"].images.iterdir())[0]
    options = Options(probabilities=True, uncertainty=True)
    members = [TrainedModel.load(folder).predict(path, options) for folder in ensemble]
    together = TrainedModel.load(*ensemble).predict(path, options)
    assert isinstance(together, Segmentation)
    stacked = np.stack([m.probabilities for m in members if isinstance(m, Segmentation)])
    assert together.probabilities is not None
    np.testing.assert_allclose(together.probabilities, stacked.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(together.probabilities.sum(axis=0), 1, atol=1e-5)
    assert together.spread is not None
    # Interpolated, a maximum is no less than the interpolated values.
    assert (together.spread >= stacked.std(axis=0).max(axis=0) * 0.5 - 1e-5).all()
    assert together.spread.max() > 0
    assert together.uncertainty is not None
    assert 0 <= together.uncertainty.min() < together.uncertainty.max() <= 1


def test_options_change_what_they_say(trained: dict[str, Trained]) -> None:
    model = TrainedModel.load(trained["segmentation"].folder)
    path = sorted(trained["segmentation"].images.iterdir())[0]

    def probabilities(**options: bool | float) -> np.ndarray:
        found = model.predict(path, Options(probabilities=True, **options))  # type: ignore[arg-type]
        assert isinstance(found, Segmentation)
        assert found.probabilities is not None
        return found.probabilities

    plain = probabilities()
    np.testing.assert_array_equal(plain, probabilities(overlap=0.5))
    for changed in (probabilities(overlap=0.75), probabilities(gaussian=True)):
        assert not np.array_equal(plain, changed)
        np.testing.assert_allclose(changed.sum(axis=0), 1, atol=1e-5)
    flipped = probabilities(flips=True)
    assert not np.array_equal(plain, flipped)


def test_an_overlap_of_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="overlap 1"):
        Options(overlap=1)


def test_models_of_different_tasks_are_no_ensemble(trained: dict[str, Trained]) -> None:
    folders = [trained[kind].folder for kind in ("segmentation", "classification")]
    with pytest.raises(ConfigError, match="another type"):
        TrainedModel.load(*folders)


def test_another_number_of_channels_is_refused(trained: dict[str, Trained]) -> None:
    model = TrainedModel.load(trained["segmentation"].folder)
    path = sorted(trained["segmentation"].images.iterdir())[0]
    with pytest.raises(DataError, match="takes one channel, but the image has 2 channels"):
        model.predict([path, path])
