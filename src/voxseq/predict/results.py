"""What a model says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxseq.data.volume import Array
from voxseq.predict.files import Place, write_volume


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Classes of the voxels of an image, on the grid of its file.

    Attributes:
        names: of the foreground classes 1, 2, …
        labels: (X, Y, Z) uint8, 0 the background.
        place: the grid; ``place.affine`` maps voxel indices to mm in RAS+.
        probabilities: (1 + classes, X, Y, Z) float32, background first; None unless asked for.
        uncertainty: (X, Y, Z) float32, entropy of the probabilities over its largest value: 0 sure,
            1 all classes alike; None unless asked for.
        spread: (X, Y, Z) float32, the largest standard deviation of a class's probability over the
            members of an ensemble; None unless asked for, or of a single model.
    """

    names: tuple[str, ...]
    labels: Array
    place: Place
    probabilities: Array | None = None
    uncertainty: Array | None = None
    spread: Array | None = None

    def save(self, path: str | Path) -> None:
        """Write the labels; ``path`` ends in .nii.gz, .nii, .mha or .nrrd."""
        write_volume(Path(path), self.labels, self.place)


@dataclass(frozen=True, eq=False)
class Classification:
    """The class of an image.

    Attributes:
        names: of all classes.
        probabilities: (classes,) float64.
        uncertainty: entropy of the probabilities over its largest value.
        spread: the largest standard deviation of a class's probability over the members of an
            ensemble; None of a single model.
    """

    names: tuple[str, ...]
    probabilities: Array
    uncertainty: float
    spread: float | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.names[int(self.probabilities.argmax())]


@dataclass(frozen=True, eq=False)
class Regression:
    """A number that is predicted of an image.

    Attributes:
        target: its name.
        unit: its unit; "" where there is none.
        value: the number, in that unit.
        spread: standard deviation over the members of an ensemble; None of a single model.
    """

    target: str
    unit: str
    value: float
    spread: float | None = None


Prediction = Segmentation | Classification | Regression
