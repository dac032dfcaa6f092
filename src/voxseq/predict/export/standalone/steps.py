"""Steps of the preparation that MONAI has no transform for. Nothing here needs voxseq."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import CropForegroundd, MapTransform, Orientationd
from torch.export.passes import move_to_device_pass


def load_program(path: str, device: torch.device) -> torch.nn.Module:
    """The network that ``torch.export`` has saved, on a device."""
    return move_to_device_pass(torch.export.load(path), device).module()


def _applied(data: Mapping[Hashable, Any], key: Hashable, name: str) -> bool:
    """Whether the last operation that was traced on an image has this name."""
    operations = data[key].applied_operations
    return bool(operations) and operations[-1]["class"] == name


class StatedOrientationd(Orientationd):
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


class Foregroundd(CropForegroundd):
    """``CropForegroundd`` around what lies above a floor in any channel; an image without stays.

    Args:
        keys: of the images.
        margin: voxels that are kept around it, inside the image.
        above_minimum: the floor is the minimum of each channel; otherwise it is 0.
    """

    def __init__(self, keys: str, margin: int, *, above_minimum: bool) -> None:
        super().__init__(
            keys=keys,
            source_key=keys,
            select_fn=_above_minimum if above_minimum else _above_zero,
            margin=margin,
            allow_smaller=True,
        )


def _above_zero(image: Any) -> Any:
    inside = image > 0
    return inside if bool(inside.any()) else torch.ones_like(inside)


def _above_minimum(image: Any) -> Any:
    inside = image > image.amin(dim=(1, 2, 3), keepdim=True)
    return inside if bool(inside.any()) else torch.ones_like(inside)


class ChannelWindowsd(MapTransform):
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


class Coveredd(MapTransform):
    """Set probabilities (K, X, Y, Z) on the file's grid to 0 where the prepared image ended.

    Next to a crop they are mixed with the nothing around it, and no longer sum to 1.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Leave those alone that were predicted."""
        found = dict(data)
        for key in self.key_iterator(found):
            outside = found[key].sum(dim=0, keepdim=True) < 0.5
            found[key] = found[key].masked_fill(outside, 0.0)
        return found
