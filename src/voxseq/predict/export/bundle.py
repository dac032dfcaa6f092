"""A trained model as a MONAI bundle, which predicts where voxseq is not installed.

The bundle holds the network as a program of ``torch.export``, whose loading needs no code of ours,
and the preparation as MONAI's transforms. Files of :mod:`voxseq.predict.export.standalone` are
copied into it as they are.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxseq.base.files import atomic_path, write_json, write_text
from voxseq.models.bundle import CARD_FILE, WEIGHTS_FILE, ModelCard, load_model, save_model
from voxseq.models.patches import sincos_positions
from voxseq.predict.export.texts import bundle_page

PROGRAM = "models/model.pt2"
#: Windows of one forward pass.
_WINDOWS = 4
_MOST_WINDOWS = 1024


def export_bundle(model: Path, folder: Path) -> list[Path]:
    """Write a trained model as a MONAI bundle.

    Args:
        model: folder of the model.
        folder: of the bundle, made where it is not there.

    Returns:
        The files that were written.

    Raises:
        DataError, IntegrityError: as :func:`voxseq.models.bundle.load_model`.
    """
    network, card = load_model(model)
    shape = input_shape(card)
    program = export_program(network, len(card.channels), shape)
    with atomic_path(folder / PROGRAM) as temporary, temporary.open("wb") as file:
        torch.export.save(program, file)
    # With these `voxseq predict` takes the bundle as a model.
    save_model(folder / "models", network, card)
    scripts = files("voxseq.predict.export.standalone")
    for name in ("__init__.py", "steps.py", "predict.py"):
        write_text(folder / "scripts" / name, (scripts / name).read_text(encoding="utf-8"))
    write_json(folder / "configs/inference.json", inference(card))
    write_json(folder / "configs/metadata.json", metadata(card, shape))
    write_text(folder / "README.md", bundle_page(card, shape))
    names = [PROGRAM, f"models/{WEIGHTS_FILE}", f"models/{CARD_FILE}", "README.md"]
    names += [f"scripts/{name}" for name in ("__init__.py", "steps.py", "predict.py")]
    names += ["configs/inference.json", "configs/metadata.json"]
    return [folder / name for name in names]


def input_shape(card: ModelCard) -> tuple[int, int, int]:
    """Voxels that the network gets: the window of a segmentation, else the resized image."""
    if card.recipe.type == "segmentation":
        return card.recipe.roi
    assert card.data.resize is not None
    return card.data.resize


def export_program(
    network: nn.Module, channels: int, shape: tuple[int, int, int]
) -> torch.export.ExportedProgram:
    """A network as a program for volumes (B, channels, *shape), with any B."""
    example: Tensor = torch.linspace(0.0, 1.0, 2 * channels * shape[0] * shape[1] * shape[2])
    example = example.reshape(2, channels, *shape)
    network = network.eval()
    with torch.no_grad():
        # Positions are kept between calls: they have to be numbers when the program is traced.
        sincos_positions.cache_clear()
        network(example)
        batch = torch.export.Dim("batch", min=1, max=_MOST_WINDOWS)
        try:
            return torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
        finally:
            sincos_positions.cache_clear()


def inference(card: ModelCard) -> dict[str, Any]:
    """Configuration of the bundle: network, preparation, inference and what follows."""
    content: dict[str, Any] = {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network": {
            "_target_": "scripts.steps.load_program",
            "path": f"$@bundle_root + '/{PROGRAM}'",
            "device": "@device",
        },
        "preprocessing": {"_target_": "Compose", "transforms": preparation(card)},
    }
    if card.recipe.type == "segmentation":
        content["inferer"] = {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(card.recipe.roi),
            "sw_batch_size": _WINDOWS,
            "overlap": card.recipe.overlap,
            "mode": "constant",
        }
        finish = _segmentation_end()
    else:
        content["inferer"] = {"_target_": "SimpleInferer"}
        finish = _answer_end(card)
    content["postprocessing"] = {"_target_": "Compose", "transforms": finish}
    return content


def preparation(card: ModelCard) -> list[dict[str, Any]]:
    """The transforms by which an image is prepared, from its file to the network's input."""
    data, channels = card.data, len(card.channels)
    windows = data.windows(channels)
    steps: list[dict[str, Any]] = [
        {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]
    if card.oriented:
        steps.append(
            {"_target_": "scripts.steps.StatedOrientationd", "keys": "image", "axcodes": "RAS"}
        )
    scaled = [[end * data.scale for end in window] for window in windows if window]
    if data.foreground_crop and not scaled:
        steps.append({"_target_": "scripts.steps.Minimad", "keys": "image"})
    if data.spacing is not None:
        spacing = {"pixdim": list(data.spacing), "mode": "bilinear", "padding_mode": "border"}
        steps.append({"_target_": "scripts.steps.Straightd", "keys": "image"})
        steps.append({"_target_": "Spacingd", "keys": "image", **spacing})
    if data.foreground_crop:
        steps.append(
            {
                "_target_": "scripts.steps.Foregroundd",
                "keys": "image",
                "margin": data.crop_margin,
                "floors": [low for low, _ in scaled] or None,
            }
        )
    if data.resize is not None:
        shape = {"spatial_size": list(data.resize), "mode": "trilinear", "align_corners": False}
        steps.append({"_target_": "Resized", "keys": "image", **shape})
    if scaled:
        steps.append(
            {"_target_": "scripts.steps.ChannelWindowsd", "keys": "image", "windows": scaled}
        )
    if not scaled and data.normalise == "zscore":
        steps.append({"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True})
    elif not scaled and data.scale != 1.0:
        scale = {"a_min": 0.0, "a_max": data.scale, "b_min": 0.0, "b_max": 1.0}
        steps.append({"_target_": "ScaleIntensityRanged", "keys": "image", **scale})
    if card.recipe.type == "segmentation":
        # Windows larger than the image reach behind its end, as crops do in training.
        padding = {"spatial_size": list(card.recipe.roi), "method": "end"}
        steps.append({"_target_": "SpatialPadd", "keys": "image", **padding})
    return steps


def _segmentation_end() -> list[dict[str, Any]]:
    """From logits on the prepared grid to a mask on the file's own."""
    return [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "scripts.steps.Insided", "keys": "pred", "name": "inside"},
        {
            "_target_": "Invertd",
            "keys": ["pred", "inside"],
            "transform": "@preprocessing",
            "orig_keys": ["image", "image"],
            "nearest_interp": [False, True],
            "to_tensor": True,
        },
        {"_target_": "scripts.steps.Maskedd", "keys": "pred", "name": "inside"},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "pred",
            "output_dtype": "$torch.uint8",
            "resample": False,
            "separate_folder": False,
            "print_log": False,
        },
    ]


def _answer_end(card: ModelCard) -> list[dict[str, Any]]:
    """From the outputs for a whole image to the columns of predictions.csv."""
    if card.recipe.type == "regression":
        standard = card.standard
        assert standard is not None
        own = {"mean": standard.mean, "sd": standard.sd}
        return [{"_target_": "scripts.steps.Standardd", "keys": "pred", **own}]
    steps: list[dict[str, Any]] = [{"_target_": "Activationsd", "keys": "pred", "softmax": True}]
    if card.outputs == 2:
        steps.append({"_target_": "scripts.steps.Lastd", "keys": "pred"})
    return steps


def answer_columns(card: ModelCard) -> list[str]:
    """Columns of predictions.csv besides the case; none for a segmentation."""
    match card.recipe.type:
        case "segmentation":
            return []
        case "regression":
            return ["value"]
    names = output_names(card)
    return ["probability"] if len(names) == 2 else [f"probability_{name}" for name in names]


def output_names(card: ModelCard) -> list[str]:
    """Names of the network's outputs."""
    if card.recipe.type == "regression":
        return [card.recipe.target]
    return [*(["background"] if card.recipe.type == "segmentation" else []), *card.recipe.labels]


def metadata(card: ModelCard, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Description of the bundle, with the keys of MONAI's schema.

    ``columns`` are those of predictions.csv; none for a segmentation.
    """
    is_segmentation = card.recipe.type == "segmentation"
    channels = {str(number): name for number, name in enumerate(output_names(card))}
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported from {card.name}"},
        "monai_version": card.versions.get("monai", ""),
        "pytorch_version": card.versions.get("torch", ""),
        "numpy_version": card.versions.get("numpy", ""),
        "required_packages_version": {"nibabel": card.versions.get("nibabel", "")},
        "name": f"{card.task} ({card.method})",
        "task": f"{card.recipe.type}: {card.task}",
        "description": f"{card.network} trained on {card.dataset}, {card.name}",
        "authors": "",
        "copyright": "",
        "data_source": card.dataset,
        "data_type": "nifti",
        "image_classes": card.dataset,
        "intended_use": "research; not a medical device",
        "licence_of_data": card.licence,
        "columns": answer_columns(card),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": len(card.channels),
                    "spatial_shape": list(shape),
                    "dtype": "float32",
                    "value_range": [0, 1] if card.data.normalise == "window" else [],
                    "is_patch_data": is_segmentation,
                    "channel_def": {str(n): name for n, name in enumerate(card.channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image" if is_segmentation else "probabilities",
                    "format": card.recipe.type,
                    "num_channels": len(channels),
                    "spatial_shape": list(shape) if is_segmentation else [],
                    "dtype": "float32",
                    "value_range": [] if card.recipe.type == "regression" else [0, 1],
                    "is_patch_data": is_segmentation,
                    "channel_def": channels,
                }
            },
        },
    }
