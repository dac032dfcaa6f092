"""Predict images with this bundle: ``python scripts/predict.py IMAGE… -o FOLDER``.

Needs torch, monai and nibabel. A segmentation is written on the grid of its image as
NAME_pred.nii.gz; other tasks as predictions.csv. An image of several channels is one file with a
fourth axis, or files joined by commas: ``t1.nii.gz,t2.nii.gz``.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch
from monai.data.utils import list_data_collate

BUNDLE = Path(__file__).resolve().parents[1]


def open_bundle(bundle: Path, out: Path, device: str) -> ConfigParser:
    """The bundle's configuration, ready to make its parts."""
    # Its own steps are imported by the name scripts.steps.
    sys.path.insert(0, str(bundle))
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    parser["output_dir"] = str(out)
    parser["device"] = f"$torch.device('{device}')"
    return parser


def outputs(parser: ConfigParser, images: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of images, and what the postprocessing makes of each."""
    device = parser.get_parsed_content("device")
    network = parser.get_parsed_content("network")
    prepare = parser.get_parsed_content("preprocessing")
    infer = parser.get_parsed_content("inferer")
    finish = parser.get_parsed_content("postprocessing")
    for image in images:
        batch = list_data_collate([prepare({"image": image})])
        with torch.no_grad():
            batch["pred"] = infer(batch["image"].to(device), network).cpu()
        first = image if isinstance(image, str) else image[0]
        yield Path(first).name, finish(decollate_batch(batch)[0])


def command() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="+", help="files; channels of one image joined by commas")
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder of the results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Predict the images that the command line names."""
    given = command().parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    images = [text.split(",") if "," in text else text for text in given.images]
    found = open_bundle(BUNDLE, given.output, given.device)
    columns = json.loads((BUNDLE / "configs" / "metadata.json").read_text())["columns"]
    rows = []
    for name, result in outputs(found, images):
        values = [float(value) for value in result["pred"].flatten()] if columns else []
        rows.append([name, *values])
        print(name, *values, flush=True)
    if columns:
        with (given.output / "predictions.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["case", *columns], *rows])


if __name__ == "__main__":
    main()
