"""Features of whole images by a trained encoder: one vector per image, and one per token.

An image is tiled by boxes as large as the volumes that the encoder was trained on, padded with 0
where it ends. Each tile is scaled by percentiles of its own intensities, as crops are in
pre-training; the encoder of a fine-tuned model gets images as they are prepared for its task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torch.nn import functional

from voxseq.base.errors import ConfigError, DataError, IntegrityError
from voxseq.base.files import atomic_path, write_csv
from voxseq.config.execution import DeviceConfig
from voxseq.config.model import EncoderConfig
from voxseq.data.grid import linear, to_ras
from voxseq.data.volume import Array, Volume
from voxseq.models.bundle import ModelCard, is_model, load_model
from voxseq.models.encoder import Encoder
from voxseq.models.transfer import ENCODER_FILE, read_record
from voxseq.models.transfer import load_encoder as load_into
from voxseq.predict.inputs import require_channels
from voxseq.predict.model import Image, prepare, volumes_of
from voxseq.training.device import accelerator
from voxseq.training.finite import require_finite
from voxseq.transforms.intensity import intensity_range

Shape = tuple[int, int, int]
#: Which voxels a tile's intensities are scaled by.
Scale = Literal["tile", "volume"]
ENDINGS = (".npz", ".parquet", ".csv")


@dataclass(frozen=True, eq=False)
class Features:
    """Features of one image.

    Attributes:
        pooled: (C,) float32, mean of the tokens.
        tokens: (X, Y, Z, C) float32, axes right, anterior, superior where the image states an
            orientation; only tokens that hold a part of the image.
        affine: (4, 4) indices of tokens to the mm of their centres, in RAS+.
    """

    pooled: Array
    tokens: Array
    affine: Array


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """An encoder, and how images become its volumes.

    Attributes:
        encoder: on its device.
        tile: voxels of the volumes that it was trained on; multiples of the patch.
        zoom: voxels of such a volume for each voxel of an image, along each axis.
        percentiles: of the intensities that become 0 and 1; None: they stay as they are.
        card: of the model whose encoder it is; None of a pre-trained one.
    """

    encoder: Encoder
    tile: Shape | None
    zoom: tuple[float, float, float] = (1.0, 1.0, 1.0)
    percentiles: tuple[float, float] | None = None
    card: ModelCard | None = None

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Self:
        """Load a pre-trained encoder, or that of a fine-tuned model.

        Args:
            path: an encoder file, the folder of a pre-training with one, or of a model.
            device: "auto" (a CUDA GPU, else the CPU), "cpu", "cuda" or "mps".

        Raises:
            ConfigError: the model has no such encoder, or there is no such device.
            DataError, IntegrityError: nothing is there, or it is damaged.
        """
        kind = accelerator(DeviceConfig.model_validate({"device": device}))
        place = Path(path).expanduser()
        if place.is_dir() and is_model(place):
            network, card = load_model(place)
            encoder = dict(network.named_children()).get("encoder")
            if not isinstance(encoder, Encoder):
                raise ConfigError(
                    f"{place}: a {card.network} has no shared encoder",
                    "name a model whose network is unetr or vit",
                )
            recipe = card.recipe
            tile = recipe.roi if recipe.type == "segmentation" else None
            return cls(encoder.to(kind), tile, card=card)
        encoder = load_encoder(place)
        file = place / ENCODER_FILE if place.is_dir() else place
        found = read_record(file)["record"].get("preprocessing")
        if not isinstance(found, dict):
            raise IntegrityError(
                f"{file}: it does not tell how images were prepared",
                "use an encoder that this version of voxseq has trained",
            )
        tile = cast(Shape, tuple(found["window_shape"]))
        sides = zip(tile, found["crop_shape"], strict=True)
        x, y, z = (new / old for new, old in sides)
        low, high = found["percentiles"]
        return cls(encoder.to(kind), tile, (x, y, z), (low, high))

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of channels that an image may have."""
        return (self.encoder.in_channels,) if self.card is None else self.card.counts

    def extract(self, image: Image, scale: Scale = "tile") -> Features:
        """Compute the features of one image.

        Args:
            image: as for :meth:`voxseq.predict.model.TrainedModel.predict`.
            scale: whether the percentiles are those of each tile, as in pre-training, or those of
                the whole image.

        Raises:
            DataError: the image cannot be read, or has another number of channels.
            NotFiniteError: the features are infinite or undefined.
        """
        volumes, _ = volumes_of(image, self.counts)
        voxels, affine = self._prepared(volumes)
        if self.percentiles is not None and scale == "volume":
            voxels = _scaled(voxels, self.percentiles)
        tokens = self._tokens(voxels, scaled=self.percentiles is None or scale == "volume")
        pooled = tokens.reshape(-1, tokens.shape[-1]).mean(axis=0, dtype=np.float64)
        patch = np.array(self.encoder.config.patch_size)
        centres = np.eye(4)
        centres[:3, :3], centres[:3, 3] = np.diag(patch), (patch - 1) / 2
        return Features(pooled.astype(np.float32), tokens, affine @ centres)

    def _prepared(self, volumes: Sequence[Volume]) -> tuple[Array, Array]:
        """Voxels (C, X, Y, Z) as the encoder takes them, and their affine."""
        if self.card is not None:
            made = prepare(volumes, self.card)
            row, shape = made.columns, made.image.shape[1:]
            start, extent = (
                [float(row[f"crop_{k}_{a}"]) for a in "xyz"] for k in ("start", "shape")
            )
            turned = _ras_affine(volumes[0], oriented=bool(row["orientation"]))
            return made.image, turned @ _covering(start, extent, shape)
        require_channels(volumes, [f"channel {n}" for n in range(self.encoder.in_channels)])
        first, (array, _) = volumes[0], to_ras(volumes[0])
        pairs = zip(array.shape, self.zoom, strict=True)
        shape = tuple(max(round(size * zoom), 1) for size, zoom in pairs)
        turned = _ras_affine(first, oriented=first.oriented)
        return linear(array, shape)[None], turned @ _covering((0, 0, 0), array.shape, shape)

    @torch.no_grad()
    def _tokens(self, voxels: Array, *, scaled: bool) -> Array:
        """Tokens (X, Y, Z, C) of an image (C, X, Y, Z), tile by tile."""
        config, shape = self.encoder.config, voxels.shape[1:]
        # Without a tile of its own the image is one.
        tile = self.tile or tuple(
            -(-size // side) * side for size, side in zip(shape, config.patch_size, strict=True)
        )
        grid = [-(-size // side) for size, side in zip(shape, config.patch_size, strict=True)]
        found = np.empty((*grid, config.width), np.float32)
        device = next(self.encoder.parameters()).device
        starts = [range(0, size, side) for size, side in zip(shape, tile, strict=True)]
        for start in product(*starts):
            box = tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))
            part = voxels[(slice(None), *box)]
            if not scaled and self.percentiles is not None:
                part = _scaled(part, self.percentiles)
            volume = torch.from_numpy(np.ascontiguousarray(part, np.float32))[None]
            missing = [t - n for t, n in zip(tile, part.shape[1:], strict=True)]
            volume = functional.pad(volume, [n for m in reversed(missing) for n in (0, m)])
            tokens = self.encoder(volume.to(device)).tokens[0].float().cpu()
            require_finite("the features", tokens)
            sides = zip(tile, config.patch_size, strict=True)
            placed = tokens.numpy().reshape(*(t // p for t, p in sides), -1)
            begin = [s // p for s, p in zip(start, config.patch_size, strict=True)]
            room = found[tuple(slice(b, b + n) for b, n in zip(begin, placed.shape, strict=False))]
            room[...] = placed[tuple(slice(0, n) for n in room.shape[:3])]
        return found


def load_encoder(path: str | Path) -> Encoder:
    """Load a pre-trained encoder from its file, on the CPU and in evaluation mode.

    Args:
        path: ``encoder.safetensors``, or the folder of the pre-training with it.

    Returns:
        A module that maps volumes (B, 1, X, Y, Z), whose axes are multiples of
        ``config.patch_size``, to tokens (B, N, C); see :class:`voxseq.models.encoder.Encoder`.

    Raises:
        IntegrityError: the file is missing, damaged or of another kind.
        ResourceError: the machine failed.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / ENCODER_FILE
    encoder = Encoder(EncoderConfig.model_validate(read_record(file)["encoder"]))
    load_into(file, encoder)
    return encoder.eval()


def features(
    encoder: FeatureExtractor | str | Path, image: Image, *, device: str = "auto"
) -> Features:
    """Compute the features of one image; see :class:`FeatureExtractor`.

    Args:
        encoder: an extractor, or what one is loaded from.
        image: as for :meth:`voxseq.predict.model.TrainedModel.predict`.
        device: for an encoder that is loaded here.
    """
    if not isinstance(encoder, FeatureExtractor):
        encoder = FeatureExtractor.load(encoder, device)
    return encoder.extract(image)


def write_features(path: Path, found: dict[str, Features], *, tokens: bool) -> None:
    """Write features of images by name.

    ``.npz``: ``names``, ``pooled`` (n, C) and, with tokens, ``tokens/NAME`` (X, Y, Z, C) and
    ``affine/NAME`` (4, 4). ``.parquet`` and ``.csv``: a row for each image, or for each token with
    its place x, y, z; columns f0, f1, …

    Raises:
        DataError: another ending.
    """
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(
            f"{path}: unknown kind of file", f"name a file that ends in {', '.join(ENDINGS)}"
        )
    if kind == ".npz":
        arrays: dict[str, Any] = {
            "names": np.array(list(found)),
            "pooled": np.stack([one.pooled for one in found.values()]),
        }
        for name, one in found.items() if tokens else ():
            arrays |= {f"tokens/{name}": one.tokens, f"affine/{name}": one.affine}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        return
    names, places, rows = _rows(found, tokens)
    columns = [f"f{n}" for n in range(rows.shape[1])]
    if kind == ".csv":
        header = ("case", *("xyz" if tokens else ()), *columns)
        lines = zip(names, places, rows, strict=True)
        write_csv(path, header, ([n, *p, *(f"{v:.9g}" for v in row)] for n, p, row in lines))
        return
    import pandas as pd

    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    for number, axis in enumerate("xyz" if tokens else ()):
        frame.insert(number, axis, [place[number] for place in places])
    frame.insert(0, "case", names)
    with atomic_path(path) as temporary:
        frame.to_parquet(temporary, index=False)


def _rows(
    found: dict[str, Features], tokens: bool
) -> tuple[list[str], list[tuple[int, ...]], Array]:
    """Names, places of tokens, and features (n, C) of the rows of a table."""
    if not tokens:
        return list(found), [()] * len(found), np.stack([one.pooled for one in found.values()])
    names: list[str] = []
    places: list[tuple[int, ...]] = []
    for name, one in found.items():
        here = list(np.ndindex(one.tokens.shape[:3]))
        places += here
        names += [name] * len(here)
    rows = [one.tokens.reshape(-1, one.tokens.shape[-1]) for one in found.values()]
    return names, places, np.concatenate(rows)


def _scaled(voxels: Array, percentiles: tuple[float, float]) -> Array:
    """Map percentiles to 0 and 1 and clip; a constant becomes 0, as in pre-training."""
    low, high = intensity_range(np.ascontiguousarray(voxels), percentiles)
    if not high > low:
        return np.zeros_like(voxels, np.float32)
    scaled = (voxels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return scaled.clip(0.0, 1.0)


def _ras_affine(volume: Volume, *, oriented: bool) -> Array:
    """Affine of a volume after :func:`voxseq.data.grid.to_ras`."""
    from nibabel import orientations

    if not oriented:
        return volume.affine
    turned = orientations.io_orientation(volume.affine)
    affine: Array = volume.affine @ orientations.inv_ornt_aff(turned, volume.array.shape)
    return affine


def _covering(start: Sequence[float], extent: Sequence[float], shape: Sequence[int]) -> Array:
    """From indices of ``shape`` voxels that cover a box to places in the grid of the box."""
    steps = np.array(extent, float) / np.array(shape, float)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(steps)
    affine[:3, 3] = np.array(start, float) + steps / 2 - 0.5
    return affine
