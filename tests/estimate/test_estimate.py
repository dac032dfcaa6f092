"""The expected cost of a plan: sums, bounds, and what it must not need."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from tests.helpers import ROOT
from voxseq.catalogue import CATALOGUE
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.amounts import (
    DOWNLOADS,
    PUBLISHED,
    SHAPES,
    VOLUMES,
    cases,
    content,
    items_of,
    prepared_shape,
    sequence_counts,
)
from voxseq.config.load import validate
from voxseq.estimate.estimate import Assumptions, estimate, wall_hours
from voxseq.estimate.run_cost import RunCost, rehearsed, windows
from voxseq.plan import STAGES, Job, Plan, Run, build_plan

RAW = read_yaml(ROOT / "params.yaml")


def scale(name: str) -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(ROOT / f"workflow/scales/{name}.yaml")])


DEMO = load_config(ROOT / "params.yaml")
PAPER = scale("paper")
PAPER_PLAN = build_plan(PAPER)
PAPER_ESTIMATE = estimate(PAPER, PAPER_PLAN)


def changed(**changes: Any) -> Config:
    """The demo with keys changed, given by dotted path with double underscores."""
    tree = copy.deepcopy(RAW)
    for path, value in changes.items():
        place = tree
        *parents, last = path.split("__")
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = value
    return validate(tree, "test")


def hours_of(config: Config) -> dict[str, float]:
    return {s.stage: s.gpu_hours for s in estimate(config, build_plan(config)).stages}


def test_it_needs_neither_torch_nor_data(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from voxseq.config import load_config, read_yaml\n"
        "from voxseq.plan import build_plan; from voxseq.estimate.estimate import estimate\n"
        f"root = Path({str(ROOT)!r})\n"
        "overlay = read_yaml(root / 'workflow/scales/paper.yaml')\n"
        "config = load_config(root / 'params.yaml', [overlay])\n"
        "estimate(config, build_plan(config))\n"
        "assert not {'torch', 'pandas', 'monai'} & set(sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "VOXSEQ_DATA"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_every_job_is_counted_once() -> None:
    found = PAPER_ESTIMATE
    assert [s.stage for s in found.stages] == list(STAGES)
    assert found.total.jobs == len(PAPER_PLAN.jobs)
    assert found.total.runs == len(PAPER_PLAN.runs)
    assert sum(found.hours.values()) == pytest.approx(found.total.gpu_hours)
    assert sum(f.runs for f in found.finetunings) == sum(
        run.action == "finetune" for run in PAPER_PLAN.runs.values()
    )
    trainings = {"pretrain", "finetune", "ablation", "label_ratio", "beyond"}
    for row in found.stages:
        assert (row.gpu_hours > 0) == (row.stage in trainings)
        assert (row.downloaded > 0) == (row.stage == "download")
        assert row.written > 0


def test_the_paper_takes_what_the_page_says() -> None:
    """Orders of magnitude that are known by hand: 21.5 h for our method, 23,000 volumes, 2 TB."""
    ours = next(p for p in PAPER_ESTIMATE.pretrainings if p.run == "pretrain/ours")
    assert ours.gpu_hours == pytest.approx(293e9 * 288 * 1e5 / 109.2e12 / 3600, rel=0.01)
    assert ours.items_per_second == pytest.approx(109.2e12 / 293e9, rel=0.01)
    by_run = {p.run.rsplit("/", 1)[1]: p.gpu_hours for p in PAPER_ESTIMATE.pretrainings}
    assert by_run["mae3d"] < by_run["medcoss"] < by_run["ours"] < by_run["dino"]
    assert max(by_run, key=lambda name: by_run[name]) == "pcrlv2"
    assert set(PAPER.pretrain.methods) < set(by_run)
    assert PAPER_ESTIMATE.plain == ()
    assert 1e12 < PAPER_ESTIMATE.total.written < 4e12
    assert 2e12 < PAPER_ESTIMATE.total.downloaded < 4e12


def test_the_demo_gives_the_sequences_that_it_has() -> None:
    """Eleven sources of 12 volumes and one of 36, 50 crops each; 24 subjects; 8 categories."""
    counts = {"spatial": (11 * 12 + 36) * 50, "contrast": 2400, "semantic": 3200}
    assert sequence_counts(DEMO) == counts
    held_back = 1 - 1 / DEMO.sequences.validation_every
    # AMOS is five sixths CT, ISLES and BraTS are MRI.
    assert items_of("CT", DEMO) == pytest.approx((10 * 600 + 500 + 3200) * held_back)
    assert items_of("MRI", DEMO) == pytest.approx((100 + 1800 + 2400) * held_back)


def test_cost_follows_steps_batch_and_seeds() -> None:
    usual = hours_of(DEMO)
    longer = hours_of(changed(pretrain__steps=2000))
    assert longer["pretrain"] == pytest.approx(2 * usual["pretrain"], rel=0.05)
    assert longer["finetune"] == usual["finetune"]
    larger = hours_of(changed(pretrain__batch_size=32))
    assert larger["pretrain"] == pytest.approx(2 * usual["pretrain"], rel=0.1)
    single = hours_of(changed(finetune__seeds=[0]))
    assert single["finetune"] == pytest.approx(usual["finetune"] / 3)
    assert single["pretrain"] == usual["pretrain"]


def test_a_given_rate_replaces_that_of_the_named_gpu() -> None:
    slow, fast = (Assumptions.of_rate(rate) for rate in (10.0, 20.0))
    cost = RunCost(matrix=7.2e16, convolution=0.0, precision="32-true")
    assert slow.hours(cost) == pytest.approx(2.0)
    assert fast.hours(cost) == pytest.approx(1.0)
    mixed = RunCost(matrix=1e15, convolution=1e15)
    usual = Assumptions()
    assert Assumptions.of_rate(usual.tflops).hours(mixed) == pytest.approx(usual.hours(mixed))


def test_single_precision_is_slower() -> None:
    usual = Assumptions()
    times = [usual.hours(RunCost(matrix=1e15, precision=p)) for p in ("bf16-mixed", "32-true")]
    assert times[1] == pytest.approx(16 * times[0])


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=40)
@given(SIDES, st.tuples(*[st.integers(4, 20)] * 3), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_windows_are_those_of_monai(
    shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: float
) -> None:
    padded = tuple(max(s, r) for s, r in zip(shape, roi, strict=True))
    interval = tuple(max(int(r * (1 - overlap)), 1) for r in roi)
    interval = tuple(r if r == n else i for r, n, i in zip(roi, padded, interval, strict=True))
    assert windows(shape, roi, overlap) == len(dense_patch_slices(padded, roi, interval))


def chain(*lengths: float, parallel: int = 1) -> tuple[Plan, dict[Any, float]]:
    """Some equal chains of jobs, none of which waits for another chain."""
    jobs, hours, runs = {}, {}, {}
    for number in range(parallel):
        needs: tuple[Any, ...] = ()
        for place, length in enumerate(lengths):
            name = f"c{number}_{place}"
            key = ("finetune", name)
            run = Run(f"finetune/{name}", "finetune", "finetune", {}, (), name, name)
            jobs[key] = Job("finetune", name, "finetune", (run,), needs, name)
            runs[run.id] = run
            hours[key] = length
            needs = (key,)
    return Plan("x", "results", runs, jobs), hours  # type: ignore[arg-type]


def test_wall_time_of_chains_by_hand() -> None:
    plan, hours = chain(3.0, 2.0, parallel=4)
    assert wall_hours(plan, hours, 1) == pytest.approx(20.0)
    assert wall_hours(plan, hours, 2) == pytest.approx(10.0)
    assert wall_hours(plan, hours, 4) == pytest.approx(5.0)
    assert wall_hours(plan, hours, 100) == pytest.approx(5.0)


@given(st.lists(st.floats(0, 9), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 9))
def test_wall_time_lies_between_its_bounds(lengths: list[float], parallel: int, gpus: int) -> None:
    plan, hours = chain(*lengths, parallel=parallel)
    total = sum(hours.values())
    wall = wall_hours(plan, hours, gpus)
    # List scheduling is at most twice as long as the best.
    least = max(total / gpus, sum(lengths))
    assert least - 1e-9 <= wall <= min(total, 2 * least) + 1e-9


def test_one_gpu_works_without_a_pause() -> None:
    wall = wall_hours(PAPER_PLAN, PAPER_ESTIMATE.hours, 1)
    assert wall == pytest.approx(PAPER_ESTIMATE.total.gpu_hours)


def test_cases_of_the_tasks_are_those_of_the_lists() -> None:
    assert cases("la", PAPER) == (72, 8, 20)
    assert cases("ricord", PAPER) == (194, 52, 84)
    assert cases("nodule", PAPER) == (1158, 165, 310)
    assert cases("task03_liver", PAPER) == (92, 13, 26)
    assert cases("nodule", DEMO) == DEMO.data.phantoms.classification_cases
    for name, parts in PUBLISHED.items():
        assert sum(parts) == CATALOGUE[name].volumes
    for name, task in DEMO.finetune.tasks.items():
        assert sum(cases(task.dataset, DEMO)) == content(task.dataset, DEMO).volumes, name


def test_assumptions_name_data_sets_and_fill_gaps_only() -> None:
    assert set(SHAPES) == set(CATALOGUE)
    for name in VOLUMES:
        assert CATALOGUE[name].volumes is None, f"{name}: the catalogue has a count now"
    for name in DOWNLOADS:
        assert CATALOGUE[name].size is None, f"{name}: the catalogue has a size now"
    for dataset in {r.config.dataset for r in PAPER_PLAN.runs.values() if r.stage == "download"}:
        assert content(dataset, PAPER).download, dataset
        assert content(dataset, PAPER).volumes, dataset


def test_prepared_shapes() -> None:
    liver = PAPER.finetune.tasks["task03_liver"]
    found = prepared_shape(content("task03_liver", PAPER), liver.data, 0.85)
    assert found == (335, 335, 432)
    ricord = PAPER.finetune.tasks["ricord"]
    assert prepared_shape(content("ricord", PAPER), ricord.data, 0.85) == (128, 128, 64)


def test_only_medcoss_rehearses() -> None:
    shares = {
        run.config.method: rehearsed(run.config, PAPER)
        for run in PAPER_PLAN.runs.values()
        if run.stage == "pretrain"
    }
    # 5 % of 1.2 million CT items are 60,000 beside 340,000 of MRI, in half of the steps.
    assert shares.pop("medcoss") == pytest.approx(0.5 * 60 / 400, rel=0.1)
    assert set(shares.values()) == {0.0}
