"""Small models with random weights, exported, and images with voxseq's own predictions.

``python -m tests.helpers.bundles FOLDER`` writes them; ``python tests/predict/without_voxseq.py
FOLDER`` compares, also where voxseq is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import gaussian_filter

from voxseq.base.files import write_json
from voxseq.models.bundle import ModelCard, Standard, Validation, network_of, save_model
from voxseq.predict.export.run import export
from voxseq.predict.model import TrainedModel

SEGMENTATION = {
    **{"type": "segmentation", "labels": ["organ", "tumour"], "roi": [16, 16, 16]},
    **{"decoder_features": 4, "overlap": 0.5, "steps": 1, "validate_every": 1},
}
CLASSES = {"type": "classification", "labels": ["no", "yes"], "steps": 1, "validate_every": 1}
THREE = {**CLASSES, "labels": ["a", "b", "c"]}
NUMBER = {"type": "regression", "target": "age", "unit": "a", "steps": 1, "validate_every": 1}
RESIZED = {"resize": [16, 16, 12], "window": [-100, 200]}
#: Name → network, recipe, preparation, and other entries of the card.
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "spacing": (
        *("unetr", SEGMENTATION, {"spacing": [2, 2, 2], "window": [-100, 200], "crop_margin": 2}),
        {},
    ),
    "zscore": (
        *("unet3d", {**SEGMENTATION, "roi": [32, 16, 16]}),
        {"normalise": "zscore", "spacing": [1, 1.5, 2]},
        {},
    ),
    "stored": (
        *("unetr", SEGMENTATION),
        {"normalise": "none", "scale": 500.0, "foreground_crop": False},
        {"oriented": False},
    ),
    "channels": ("vit", THREE, RESIZED, {"channels": ("t1", "t2")}),
    "two_classes": ("vit", CLASSES, RESIZED, {}),
    "three_classes": ("resnet", THREE, {**RESIZED, "foreground_crop": False}, {}),
    "number": ("vit", NUMBER, RESIZED, {"standard": Standard(mean=50.0, sd=12.0)}),
}
ENCODER = {"width": 12, "depth": 2, "heads": 2, "mlp_width": 16, "patch_size": [4, 4, 4]}
NETWORK_SETTINGS: dict[str, dict[str, Any]] = {
    "unet3d": {"features": [4, 4, 8, 8, 16, 4]},
    "resnet": {"stem": "small", "width": 0.0625},
}


def card_of(name: str) -> ModelCard:
    """Description of one of the models."""
    network, recipe, data, further = MODELS[name]
    given = {
        "network": network,
        "network_settings": NETWORK_SETTINGS.get(network),
        "encoder": ENCODER,
        "recipe": recipe,
        "data": data,
        "precision": "32-true",
        "task": "Toy",
        "dataset": "toys",
        "run": f"finetune/toy/{name}/s0",
        "fingerprint": "0" * 16,
        "method": "ours",
        "seed": 3,
        "ratio": 1.0,
        "pretraining": None,
        "validation": Validation(score="dice", value=0.5, step=1),
        "versions": {},
        **further,
    }
    return ModelCard.model_validate(given)


def images(folder: Path, channels: int) -> list[list[Path]]:
    """Files of four images, blobs in air, which a crop cuts away.

    One is turned, one oblique, one smaller than a window; of one every other voxel lies half way
    between those of a coarser grid.
    """
    rng = np.random.default_rng(0)
    turned = np.diag([-1.5, 1.2, 3.0, 1.0])
    slant = np.radians(8)
    axes = [[0, np.cos(slant), np.sin(slant)], [-1, 0, 0], [0, -np.sin(slant), np.cos(slant)]]
    oblique = np.eye(4)
    oblique[:3] = np.column_stack([np.array(axes) * [1.9, 1.4, 2.4], [3, -8, 5]])
    made = []
    for name, shape, affine in (
        ("turned", (40, 33, 21), turned),
        ("oblique", (24, 36, 18), oblique),
        ("small", (9, 12, 11), np.diag([2.0, 2.0, 2.0, 1.0])),
        ("halves", (30, 28, 27), np.eye(4)),
    ):
        body = np.zeros(shape)
        body[2:-3, 3:-2, 1:-4] = 1.0
        paths = [folder / f"{name}_{number}.nii.gz" for number in range(channels)]
        for path in paths:
            blobs = 800 * gaussian_filter(rng.normal(size=shape), 1.5) + 60
            values = np.where(body > 0, blobs, -1000).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(values, affine), path)
        made.append(paths)
    return made


def write_model(root: Path, name: str) -> Path:
    """A model with random weights; returns its folder."""
    card = card_of(name)
    save_model(root / name / "model", network_of(card), card)
    return root / name / "model"


def write_case(root: Path, name: str) -> Path:
    """A bundle, images, and what voxseq predicts for them: masks, or answers in expected.json."""
    folder = root / name
    source = write_model(root, name)
    export(source, folder / "bundle", "bundle")
    model = TrainedModel.load(source, device="cpu")
    answers: dict[str, list[float]] = {}
    for paths in images(folder, len(model.card.channels)):
        found: Any = model.predict(paths)
        match model.card.recipe.type:
            case "segmentation":
                image = nibabel.Nifti1Image(found.labels, nibabel.load(paths[0]).affine)
                nibabel.save(image, folder / f"{paths[0].name.split('.')[0]}_expected.nii.gz")
            case "regression":
                answers[paths[0].name] = [found.value]
            case _:
                chances = found.probabilities.tolist()
                answers[paths[0].name] = chances[1:] if len(chances) == 2 else chances
    write_json(folder / "expected.json", answers)
    return folder


if __name__ == "__main__":
    for case in MODELS:
        print(write_case(Path(sys.argv[1]), case))
