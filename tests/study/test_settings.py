"""Keys that follow from the machine, and the text that they are written as."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.study.conftest import Seen
from voxseq.config.datasets import DataConfig
from voxseq.config.reading import parse_yaml
from voxseq.study.division import divide
from voxseq.study.look import Look
from voxseq.study.machine import Machine, this_machine
from voxseq.study.presets import PRESETS
from voxseq.study.settings import Wishes, settings
from voxseq.study.write import text_of

CPU = Machine(2, "", 24 * 10**9, 1e11, 1e11)
GPU = replace(CPU, cores=16, gpu="a GPU", memory=80 * 10**9, has_bf16=True)
WISHES = Wishes("mine", {"folder": "/own", "layout": "msd", "modality": "MRI"})


def made(look: Look, machine: Machine = CPU, **wishes: Any) -> dict[str, Any]:
    asked = replace(WISHES, **wishes)
    return settings(look, asked, PRESETS["small"], machine, divide(look, DataConfig()))


def test_a_gpu_is_asked_for_and_computes_in_sixteen_bits(seen: Seen) -> None:
    plain, fast = made(seen()), made(seen(), GPU)
    assert "gpu" not in plain["execution"]["finetune"]
    assert "precision" not in plain["pretrain"]
    assert fast["execution"]["pretrain"]["gpu"] == 1
    assert fast["execution"]["pretrain"]["threads"] == 9
    assert fast["finetune"]["precision"] == "bf16-mixed"
    old = made(seen(), replace(GPU, has_bf16=False))
    assert "precision" not in old["finetune"]


def test_classes_that_are_ignored_are_none(seen: Seen) -> None:
    task = made(seen(names={1: "a"}, ignore=2))["finetune"]["tasks"]["mine"]
    assert task["labels"] == ["a"]
    assert task["ignore_label"] == 2
    assert task["class_weights"] == [1.0, 2.0]


def test_values_of_one_name_are_one_class(seen: Seen) -> None:
    names = {1: "lesion", 2: "lesion", 3: "core"}
    task = made(seen(names=names, voxels={0: 9000, 1: 300, 2: 100, 3: 100}))["finetune"]["tasks"]
    assert task["mine"]["labels"] == ["lesion", "core"]
    assert task["mine"]["data"]["merge_labels"] == {2: 1, 3: 2}
    assert task["mine"]["class_weights"] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("names", "augmentation"),
    [
        (("kidney_left", "kidney_right"), "unflipped"),
        (("Left lung", "Right lung", "heart"), "unflipped"),
        (("left atrium", "bright spot"), "msd"),
    ],
)
def test_sides_are_not_mirrored(seen: Seen, names: tuple[str, ...], augmentation: str) -> None:
    look = seen(names=dict(enumerate(names, 1)))
    assert made(look)["finetune"]["tasks"]["mine"]["augmentation"] == augmentation


@pytest.mark.parametrize("steps", [1, 2, 100])
def test_few_steps_are_warmed_up_and_validated_too(seen: Seen, steps: int) -> None:
    found = made(seen(), steps=steps)
    task = found["finetune"]["tasks"]["mine"]
    for part in (found["pretrain"], task):
        assert part["steps"] == steps
        assert 1 <= part["validate_every"] <= steps
    assert 1 <= task["scratch"]["warmup_steps"] <= steps


def test_the_text_reads_back_as_the_keys_with_remarks_beside_them(seen: Seen) -> None:
    tree = made(seen())
    said = {
        "standalone": "first",
        "encoder": "above a mapping",
        "finetune.tasks.mine.roi": "deep",
        "pretrain.methods.ours.optimiser.lr": "inside",
        "absent.key": "nowhere",
        "finetune.seeds": "each",
        "finetune.runs_per_job": "few",
        "finetune.keep_models": "so",
    }
    text = text_of(tree, ["One.", "Two."], said)
    assert parse_yaml(text)[0] == tree
    assert text.startswith("# One.\n# Two.\n")
    for remark in ("first", "deep"):
        assert text.count(f"  # {remark}") == 1
    for remark in ("above a mapping", "inside"):
        assert text.count(f"# {remark}") == 1
    # Whatever is above it, two blanks come before a remark.
    assert "\n  runs_per_job: 1  # few\n" in text
    assert "\n  keep_models: all  # so\n" in text
    assert "nowhere" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_rates_of_this_machine_are_measured() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.memory > 2**28
    assert found.products > 0
    assert found.convolutions > 0
    assert f"{found.cores} core" in str(found)
