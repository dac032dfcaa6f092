"""Rates, reading and memory of pre-trainings, against arithmetic by hand and against each other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT
from voxseq.base.devices import DEVICES
from voxseq.cli.plan_tables import misfits
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.amounts import content
from voxseq.config.execution import TrainingResources
from voxseq.config.runs import PretrainRun
from voxseq.estimate.counts import Counts
from voxseq.estimate.estimate import Estimate, estimate
from voxseq.estimate.needs import Needs, divisors, needs
from voxseq.estimate.preparation import chores
from voxseq.estimate.rates import Assumptions
from voxseq.estimate.reading import HEADER, Boxes, boxes_of, reading
from voxseq.estimate.run_cost import Packing, RunCost, RunCosts
from voxseq.plan import build_plan
from voxseq.training.held import block_bytes


def scale(name: str) -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(ROOT / f"workflow/scales/{name}.yaml")])


PAPER, SMOKE = scale("paper"), scale("smoke")


def pretraining(config: Config, method: str) -> PretrainRun:
    run: PretrainRun = build_plan(config).runs[f"pretrain/{method}/s0"].config
    return run


def asked(config: Config, **keys: Any) -> Config:
    """A configuration with other keys of execution.pretrain."""
    given = config.execution.pretrain.model_dump() | keys
    changed = {"pretrain": TrainingResources(**given)}
    return config.model_copy(update={"execution": config.execution.model_copy(update=changed)})


class TestRates:
    @pytest.mark.parametrize(
        ("precision", "tf32", "kind"),
        [
            ("bf16-mixed", False, "16 bits"),
            ("16-mixed", True, "16 bits"),
            ("32-true", False, "32 bits"),
            ("32-true", True, "TF32"),
        ],
    )
    def test_arithmetic_of_a_precision(self, precision: str, tf32: bool, kind: str) -> None:
        assert Assumptions(tf32=tf32).kind(precision) == kind

    def test_hours_by_hand(self) -> None:
        used = Assumptions(DEVICES["h200"])
        mixed = RunCost(matrix=0.35 * 989e12 * 3600, convolution=0.1 * 989e12 * 7200)
        assert used.hours(mixed) == pytest.approx(3.0)
        single = RunCost(matrix=0.75 * 67e12 * 3600, precision="32-true")
        assert used.hours(single) == pytest.approx(1.0)
        staged = RunCost(clustered=0.75 * 67e12 * 1800, precision="bf16-mixed")
        assert used.hours(staged) == used.staging_hours(staged) == pytest.approx(0.5)
        assert used.scoring_hours(staged) == 0.0

    def test_scoring_is_part_of_the_hours(self) -> None:
        cost = RunCost(matrix=3e18, scored_matrix=1e18, precision="bf16-mixed")
        used = Assumptions()
        assert used.scoring_hours(cost) == pytest.approx(used.hours(cost) / 3)


class TestReading:
    def test_boxes_of_the_paper_by_hand(self) -> None:
        """Of 128 x 128 x 56 voxels 67 chunks of 32³ are touched, 2.4 times the box."""
        planes = boxes_of("spatial", content("stoic", PAPER), PAPER.sequences, sequences=True)
        assert planes == Boxes(1, (128, 128, 56), (512, 512, 430))
        chunk = PAPER.store.chunk_shape
        assert planes.touched(chunk) / 32**3 == pytest.approx(67, abs=0.5)
        assert planes.touched(chunk) / planes.voxels == pytest.approx(2.4, abs=0.01)
        image = boxes_of("spatial", content("stoic", PAPER), PAPER.sequences, sequences=False)
        assert image.touched(chunk) / image.voxels == pytest.approx(1.9, abs=0.03)

    def test_a_whole_axis_touches_its_chunks_and_no_more(self) -> None:
        assert Boxes(1, (32, 32, 40), (32, 64, 40)).touched((32, 32, 32)) == 32 * 63 * 64

    @pytest.mark.parametrize(
        ("kind", "dataset", "shapes"),
        [
            # Thin volumes are read whole, to be stretched.
            ("spatial", "tcia_covid19", ((1, (128, 128, 70)), (1, (128, 128, 70)))),
            ("contrast", "brats23", ((4, (128, 128, 32)), (1, (128, 128, 128)))),
            ("semantic", "deeplesion", ((4, (128, 128, 40)), (1, (128, 128, 40)))),
        ],
    )
    def test_boxes_of_other_kinds(self, kind: str, dataset: str, shapes: Any) -> None:
        held = content(dataset, PAPER)
        for is_sequence, (count, shape) in zip((True, False), shapes, strict=True):
            boxes = boxes_of(kind, held, PAPER.sequences, sequences=is_sequence)
            assert (boxes.count, boxes.shape) == (count, shape)

    def test_a_row_has_room_for_the_largest_item(self) -> None:
        run = pretraining(PAPER, "ours")
        own = reading(run, PAPER, Packing(), sequences=True)
        # Of AMOS, which is thin and has MRI in float32. Most items are 56 planes of int16.
        assert own.row == 128 * 128 * 120 * 4 + HEADER
        assert own.handed_over == pytest.approx(2.7e6, rel=0.02)
        for kinds, voxels in (
            (("contrast",), 4 * 128 * 128 * 32),
            (("contrast", "semantic"), 4 * 128 * 128 * 40),
        ):
            alone = run.model_copy(update={"kinds": kinds})
            assert reading(alone, PAPER, Packing(), sequences=True).row == 2 * voxels + HEADER

    def test_weights_replace_the_numbers_of_sequences(self) -> None:
        run = pretraining(PAPER, "ours")
        sequences = run.sequences
        shares = {"spatial": 0.0, "contrast": 0.0, "semantic": 1.0}
        weighed = sequences.model_copy(
            update={
                kind: getattr(sequences, kind).model_copy(update={"weight": weight})
                for kind, weight in shares.items()
            }
        )
        given = run.model_copy(update={"sequences": weighed})
        own = reading(given, PAPER, Packing(), sequences=True)
        assert own.voxels == 4 * 128 * 128 * 40
        assert own.handed_over == 2 * own.voxels

    @pytest.mark.parametrize(
        ("rows", "workers", "steps"), [(288, 16, 2), (36, 16, 3), (4, 2, 2), (2, 4, 5), (3, 0, 1)]
    )
    def test_shared_memory_by_hand(self, rows: int, workers: int, steps: int) -> None:
        """Two tasks of a worker are ahead, besides one whole step; without any, it is all."""
        assert block_bytes(rows, 1000, workers) == steps * rows * 1000

    def test_the_pod_of_the_example_has_room_for_the_paper(self) -> None:
        pod = (ROOT / "profiles/kubernetes/job.yaml").read_text()
        shared, memory = (
            2**30 * int(re.findall(pattern, pod)[0])
            for pattern in (r"sizeLimit: (\d+)Gi", r"limits: {memory: (\d+)Gi")
        )
        asked = PAPER.execution.pretrain
        for method in ("ours", "simclr"):
            run = pretraining(PAPER, method)
            row = reading(run, PAPER, Packing(), sequences=method == "ours").row
            assert block_bytes(run.batch_size, row, asked.workers) <= min(shared, 6e9)
        assert asked.mem_mb * 1e6 <= memory


class TestNeeds:
    def test_divisors(self) -> None:
        assert divisors(12) == [1, 2, 3, 4, 6, 12]
        assert len(divisors(288)) == 18

    @pytest.fixture(scope="class")
    def counts(self, counts: Path) -> Counts:
        return Counts(counts)

    def of(self, counts: Counts, method: str, memory: float, **keys: Any) -> Needs:
        device = replace(DEVICES["a100"], memory=memory)
        config = asked(SMOKE, gpu=keys.get("processes", 1), **keys)
        return needs(pretraining(SMOKE, method), config, counts, Assumptions(device))

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["ours", "pcrlv2"])
    def test_each_remedy_makes_it_fit_and_the_next_smaller_does_not(
        self, counts: Counts, method: str
    ) -> None:
        alone = self.of(counts, method, 1e12)
        assert alone.remedies == ()
        memory = 0.95 * alone.device / 0.9
        found = self.of(counts, method, memory)
        assert any(remedy.startswith("processes") for remedy in found.remedies)
        assert any("accumulate" in remedy for remedy in found.remedies) == (method == "ours")
        for remedy in found.remedies:
            key, _, value = remedy.partition(": ")
            if key == "processes and gpu":
                assert self.of(counts, method, memory, processes=int(value)).remedies == ()
                less = max(n for n in divisors(4) if n < int(value))
                assert less == 1 or self.of(counts, method, memory, processes=less).remedies
            elif key == "recompute":
                assert self.of(counts, method, memory, recompute=True).remedies == ()

    def test_what_nothing_makes_fit_has_no_remedy(self, counts: Counts) -> None:
        found = self.of(counts, "simclr", 1.0)
        assert found.device > 1.0
        assert found.remedies == ()

    def test_recomputation_takes_another_forward_pass(self, counts: Counts) -> None:
        run = build_plan(SMOKE).runs["pretrain/mae3d/s0"]
        kept, again = (
            RunCosts(asked(SMOKE, recompute=recompute), Packing(), counts)(run)
            for recompute in (False, True)
        )
        steps = kept.matrix - kept.scored_matrix
        # A third; less by the gradient with respect to voxels, which nothing needs.
        assert (again.matrix - kept.matrix) / steps == pytest.approx(1 / 3, abs=0.03)
        assert again.scored_matrix == kept.scored_matrix

    def test_memory_of_the_host(self, counts: Counts) -> None:
        one = self.of(counts, "ours", 1e12, workers=2)
        assert one.shared == block_bytes(4, one.reading.row, 2)
        two = self.of(counts, "ours", 1e12, workers=2, processes=2)
        assert two.rows == 2
        assert two.shared == 2 * block_bytes(2, one.reading.row, 2)
        apart = self.of(counts, "ours", 1e12, workers=2, processes=2, nodes=2)
        assert apart.shared == two.shared / 2
        assert apart.host == pytest.approx(two.host / 2)
        # Without a GPU the step is in the memory of the host.
        found = needs(pretraining(SMOKE, "ours"), SMOKE, counts, Assumptions())
        assert found.host > found.device


@pytest.fixture(scope="module")
def small(counts: Path) -> Estimate:
    config = asked(SMOKE, gpu=1, mem_mb=1)
    device = replace(DEVICES["a100"], memory=2.1e6)
    return estimate(config, build_plan(config), Assumptions(device), counts)


@pytest.mark.slow
def test_a_misfit_names_the_key_to_change(small: Estimate) -> None:
    config = asked(SMOKE, gpu=1, mem_mb=1)
    texts = [text for text in misfits(config, small) if text.startswith("pretrain/ours/s0")]
    assert len(texts) == 2
    assert "execution.pretrain.processes and gpu: 2 or" in texts[0]
    assert "execution.pretrain.accumulate: {ours: 2}" in texts[0]
    assert "execution.pretrain.mem_mb" in texts[1]


@pytest.mark.slow
def test_work_besides_the_steps(small: Estimate) -> None:
    listed = {chore.name: chore for chore in chores(SMOKE, small)}
    assert set(listed) == {
        "hash all sources",
        "ranges of all sequences",
        *(f"pretrain/medcoss/s{seed}: change of stage" for seed in range(SMOKE.seeds)),
    }
    stage = listed["pretrain/medcoss/s0: change of stage"]
    assert stage.gpu_hours >= stage.hours == stage.core_hours > 0
    cost = small.costs["pretrain/medcoss/s0"]
    assert stage.gpu_hours >= small.assumptions.staging_hours(cost) > 0
