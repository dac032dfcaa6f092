"""What a study takes: counted without values, and compared with a step that has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import ROOT, own_images
from voxseq.config import load_config
from voxseq.config.reading import Document
from voxseq.config.runs import FinetuneRun
from voxseq.models.networks import build_network
from voxseq.plan import build_plan
from voxseq.study.cost import cost_of, finetuning_bytes
from voxseq.study.init import make
from voxseq.study.machine import Machine
from voxseq.study.settings import Wishes
from voxseq.study.source import facts_of

CPU = Machine(2, "", 24 * 10**9, 1e11, 1e11)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FinetuneRun]:
    """A fine-tuning of each type."""
    found = {}
    for name, write, words in (
        ("segmentation", own_images.nnunet, {"images": ""}),
        ("classification", own_images.tables, {"images": "knees.csv"}),
        ("regression", own_images.tables, {"images": "age.csv", "target": "age"}),
    ):
        folder = tmp_path_factory.mktemp(name)
        write(folder)
        facts = facts_of(folder / words["images"], target=words.get("target"))
        study = make(Wishes("mine", facts, words.get("target")), CPU, "tiny", is_told=False)
        assert study.config is not None
        plan = build_plan(study.config)
        found[name] = next(r.config for r in plan.runs.values() if r.action == "finetune")
    return found


@pytest.mark.parametrize("kind", ["segmentation", "classification", "regression"])
def test_memory_of_a_fine_tuning_holds_its_weights_and_grows_with_the_batch(
    runs: dict[str, FinetuneRun], kind: str
) -> None:
    own = runs[kind]
    network = build_network(
        own.network,
        own.encoder,
        classes=own.recipe.outputs,
        features=getattr(own.recipe, "decoder_features", 1),
        seed=0,
        in_channels=own.channels,
    )
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    found = finetuning_bytes(own, (16, 16, 16))
    # Weights, gradients, two moments and the best weights.
    assert found > 5 * weights
    key = "volumes_per_batch" if kind == "segmentation" else "batch_size"
    more = own.recipe.model_copy(update={key: 8 * getattr(own.recipe, key)})
    assert finetuning_bytes(own.model_copy(update={"recipe": more}), (16, 16, 16)) > 2 * found


def test_time_follows_the_rates_and_the_trainings_side_by_side(tmp_path: Path) -> None:
    own_images.decathlon(tmp_path / "own")
    wishes = Wishes("mine", facts_of(tmp_path / "own"), steps=100)
    study = make(wishes, CPU, "small", is_told=False)
    assert study.config is not None
    assert study.cost is not None
    slow = replace(CPU, products=CPU.products / 10, convolutions=CPU.convolutions / 10)
    alone = replace(CPU, cores=1)
    usual, slower, single = (cost_of(study.config, m, 1.0) for m in (CPU, slow, alone))
    # A pre-training and two fine-tunings of each of three seeds.
    assert usual.runs == 9
    assert slower.finetuning > 3 * usual.finetuning
    assert usual.seconds < single.seconds < 2.1 * usual.seconds
    assert usual.fits(CPU)
    # A process on a CPU holds its libraries too.
    assert usual.memory(CPU) > 0.5e9 + usual.memory(replace(CPU, gpu="a GPU"))
    assert not usual.fits(replace(CPU, memory=10**8))
    assert not usual.fits(replace(CPU, gpu="a GPU", memory=10**6))


def test_a_study_of_encoders_has_no_fine_tuning(tmp_path: Path) -> None:
    own_images.scans(tmp_path)
    wishes = Wishes("mine", facts_of(tmp_path), pretrain_only=True, steps=5, seeds=1)
    study = make(wishes, CPU, "tiny", is_told=False)
    assert study.cost is not None
    assert (study.cost.runs, study.cost.finetuning) == (1, 0.0)
    assert study.cost.pretraining > 0
    content = load_config(ROOT / "params.yaml", [Document({**_tree(study.text)}, "mine")])
    assert content == study.config


def _tree(text: str) -> dict[str, object]:
    from voxseq.config.reading import parse_yaml

    found: dict[str, object] = parse_yaml(text)[0]
    return found
