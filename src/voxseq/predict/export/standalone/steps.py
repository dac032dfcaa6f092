"""Steps of the preparation that MONAI has no transform for. Nothing here needs voxseq."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import CropForegroundd, InvertibleTransform, MapTransform, Orientationd
from torch.export.passes import move_to_device_pass

#: Share of the range of values; ``Spacingd`` interpolates in double precision.
_ROUNDING = 1e-9
#: Sum of interpolated probabilities that may be missing from a half.
_HALF = 1e-4


def load_program(path: str, device: torch.device) -> torch.nn.Module:
    """The network that ``torch.export`` has saved, on a device."""
    return move_to_device_pass(torch.export.load(path), device).module()


def _applied(data: Mapping[Hashable, Any], key: Hashable, name: str) -> bool:
    """Whether the last operation that was traced on an image has this name."""
    operations = data[key].applied_operations
    return bool(operations) and operations[-1]["class"] == name


class StatedOrientationd(Orientationd):  # type: ignore[misc]
    """``Orientationd`` that leaves files alone whose header states no orientation."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> Any:
        """Turn the axes of the images whose header has a qform or sform code."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            meta = turned[key].meta
            codes = [int(meta.get(f"{form}_code", 1)) for form in ("qform", "sform")]
            if any(codes):
                turned[key] = self.ornt_transform(turned[key])
        return turned

    def inverse(self, data: Mapping[Hashable, Any]) -> Any:
        """Turn them back."""
        turned = dict(data)
        for key in self.key_iterator(turned):
            if _applied(turned, key, "Orientation"):
                turned[key] = self.ornt_transform.inverse(turned[key])
        return turned


class Straightd(MapTransform, InvertibleTransform):  # type: ignore[misc]
    """Leave of an affine the spacing alone, so that ``Spacingd`` resamples along the array's axes.

    Of an oblique or slanted image it would otherwise move the first voxel.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Forget direction and place, and remember them for the way back."""
        found = dict(data)
        for key in self.key_iterator(found):
            affine = found[key].affine.clone()
            self.push_transform(found[key], extra_info={"affine": affine})
            spacing = affine[:3, :3].norm(dim=0)
            found[key].affine = torch.diag(torch.cat([spacing, torch.ones(1).to(spacing)]))
        return found

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring them back."""
        found = dict(data)
        for key in self.key_iterator(found):
            before = self.pop_transform(found[key])
            found[key].affine = before["extra_info"]["affine"]
        return found


class Minimad(MapTransform):  # type: ignore[misc]
    """Note the minimum of each channel, as its file stores values, for :class:`Foregroundd`.

    It is raised by what a resampled constant may differ from itself.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Of images (C, X, Y, Z)."""
        found = dict(data)
        for key in self.key_iterator(found):
            low, high = found[key].amin(dim=(1, 2, 3)), found[key].amax(dim=(1, 2, 3))
            found[key].meta["minima"] = (low + _ROUNDING * (high - low)).tolist()
        return found


class Foregroundd(CropForegroundd):  # type: ignore[misc]
    """``CropForegroundd`` around what lies above a floor in any channel; an image without stays.

    Args:
        keys: of the image.
        margin: voxels that are kept around it, inside the image.
        floors: of each channel, as its file stores values; None: what :class:`Minimad` noted.
    """

    def __init__(self, keys: str, margin: int, floors: Sequence[float] | None) -> None:
        super().__init__(
            keys=keys,
            source_key=keys,
            select_fn=self.select,
            margin=margin,
            allow_smaller=True,
        )
        self.given, self.floors = floors, floors

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> Any:
        """Cut the image."""
        if self.given is None:
            self.floors = data[self.source_key].meta["minima"]
        return super().__call__(data, lazy)

    def select(self, image: Any) -> Any:
        """Mask of the foreground of an image (C, X, Y, Z)."""
        inside = image > torch.tensor(self.floors).reshape(-1, 1, 1, 1)
        return inside if bool(inside.any()) else torch.ones_like(inside)


class ChannelWindowsd(MapTransform):  # type: ignore[misc]
    """Map a window of intensities to 0..1, one window for each channel, and clip.

    Args:
        keys: of the images.
        windows: low and high of each channel.
    """

    def __init__(self, keys: str, windows: Sequence[Sequence[float]]) -> None:
        super().__init__(keys)
        self.windows = windows

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Map the channels of images (C, X, Y, Z)."""
        mapped = dict(data)
        for key in self.key_iterator(mapped):
            image = mapped[key].clone()
            for channel, (low, high) in zip(image, self.windows, strict=True):
                channel.sub_(low).div_(high - low).clamp_(0.0, 1.0)
            mapped[key] = image
        return mapped


class Lastd(MapTransform):  # type: ignore[misc]
    """Keep the last channel: of two classes the probability of the second tells all."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Of outputs (K,)."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = found[key][-1:]
        return found


class Standardd(MapTransform):  # type: ignore[misc]
    """Undo the standardisation of a number that was learnt.

    Args:
        keys: of the outputs.
        mean: of the number in training.
        sd: its standard deviation.
    """

    def __init__(self, keys: str, mean: float, sd: float) -> None:
        super().__init__(keys)
        self.mean, self.sd = mean, sd

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Of outputs (1,)."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = found[key] * self.sd + self.mean
        return found


class Insided(MapTransform):  # type: ignore[misc]
    """Add a mask of ones on the grid of an array, from which the way back makes one of the file's
    grid: 0 where the prepared image had been cut.

    Args:
        keys: of the array.
        name: of the mask.
    """

    def __init__(self, keys: str, name: str) -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add (1, X, Y, Z) to an array (K, X, Y, Z)."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[self.name] = torch.ones_like(found[key][:1])
        return found


class Maskedd(MapTransform):  # type: ignore[misc]
    """Set probabilities to 0 outside a mask; voxels half way over its edge are inside.

    Args:
        keys: of the probabilities, which sum to less than 1 next to what had been cut.
        name: of the mask.
    """

    def __init__(self, keys: str, name: str) -> None:
        super().__init__(keys)
        self.name = name

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Probabilities of 0 throughout are background."""
        found = dict(data)
        for key in self.key_iterator(found):
            is_half = found[key].sum(dim=0, keepdim=True) >= 0.5 - _HALF
            found[key] = found[key] * ((found[self.name] > 0.5) | is_half)
        return found
