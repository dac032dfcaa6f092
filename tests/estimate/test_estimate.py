"""The expected cost of a plan: sums, bounds, and what ``voxseq plan --scale`` prints and writes."""

from __future__ import annotations

import copy
import difflib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from tests.helpers import ROOT
from voxseq.base.errors import VoxseqError
from voxseq.catalogue import CATALOGUE
from voxseq.cli import main as cli
from voxseq.cli.plan_estimate import overlay_of, with_estimate
from voxseq.cli.plan_tables import sections
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.amounts import cases, content, items_of, prepared_shape, sequence_counts
from voxseq.config.load import validate
from voxseq.config.methods.medcoss import MedCoSSSettings
from voxseq.estimate.counts import COUNTS
from voxseq.estimate.estimate import Estimate, estimate, wall_hours
from voxseq.estimate.rates import Assumptions
from voxseq.estimate.run_cost import RunCost, rehearsed, windows
from voxseq.plan import STAGES, Job, Plan, Run, build_plan

RAW = read_yaml(ROOT / "params.yaml")


def scale(name: str) -> Config:
    return load_config(ROOT / "params.yaml", [read_yaml(ROOT / f"workflow/scales/{name}.yaml")])


DEMO = load_config(ROOT / "params.yaml")
PAPER = scale("paper")
PAPER_PLAN = build_plan(PAPER)


@pytest.fixture(scope="module")
def paper(counts: Path) -> Estimate:
    return estimate(PAPER, PAPER_PLAN, kept=counts)


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


def hours_of(config: Config, counts: Path) -> dict[str, float]:
    found = estimate(config, build_plan(config), kept=counts)
    return {stage: found.totals(stage).gpu_hours for stage in STAGES}


@pytest.mark.slow
def test_with_kept_counts_it_needs_neither_torch_nor_data(
    paper: Estimate, counts: Path, tmp_path: Path
) -> None:
    # Other worker processes replace the file that all have in common.
    own = Path(shutil.copy(counts, tmp_path))
    estimate(PAPER, PAPER_PLAN, kept=own)
    code = (
        "import sys; from pathlib import Path\n"
        "from voxseq.config import load_config, read_yaml\n"
        "from voxseq.plan import build_plan; from voxseq.estimate.estimate import estimate\n"
        f"root = Path({str(ROOT)!r})\n"
        "overlay = read_yaml(root / 'workflow/scales/paper.yaml')\n"
        "config = load_config(root / 'params.yaml', [overlay])\n"
        f"found = estimate(config, build_plan(config), kept=Path({str(own)!r}))\n"
        "assert not {'torch', 'pandas', 'monai'} & set(sys.modules)\n"
        "print(found.totals().exaflop)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "VOXSEQ_DATA"}
    environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout) == paper.totals().exaflop


@pytest.mark.slow
def test_every_job_is_counted_once(paper: Estimate) -> None:
    total = paper.totals()
    assert (total.jobs, total.runs) == (len(PAPER_PLAN.jobs), len(PAPER_PLAN.runs))
    assert sum(paper.job_hours().values()) == pytest.approx(total.gpu_hours)
    trainings = {"pretrain", "finetune", "ablation", "label_ratio", "beyond"}
    for stage in STAGES:
        row = paper.totals(stage)
        assert (row.gpu_hours > 0) == (stage in trainings)
        assert (row.downloaded > 0) == (stage == "download")
        assert row.written > 0


@pytest.mark.slow
def test_the_paper_takes_what_the_page_says(paper: Estimate) -> None:
    """Orders of magnitude that are known by hand: 6.8 h for our method, 23,000 volumes, 2 TB."""
    hours = {r.id: paper.hours(r) for r in paper.runs("pretrain")}
    ours = paper.costs["pretrain/ours/s0"]
    assert hours["pretrain/ours/s0"] == pytest.approx(293e9 * 288 * 1e5 / 346.2e12 / 3600, rel=0.01)
    assert ours.operations / ours.items == pytest.approx(293e9, rel=0.01)
    names = ("mae3d", "medcoss", "ours", "dino", "pcrlv2")
    rising = [hours[f"pretrain/{name}/s0"] for name in names]
    assert rising == sorted(rising)
    assert max(hours.values()) == rising[-1]
    assert {f"pretrain/{name}/s0" for name in PAPER.pretrain.methods} < set(hours)
    assert not any(cost.is_plain for cost in paper.costs.values())
    assert 1e12 < paper.totals().written < 4e12
    assert 2e12 < paper.totals().downloaded < 4e12


def test_the_demo_gives_the_sequences_that_it_has() -> None:
    """Eleven sources of 12 volumes and one of 36, 50 crops each; 24 subjects; 8 categories."""
    counts = {"spatial": (11 * 12 + 36) * 50, "contrast": 2400, "semantic": 3200}
    assert sequence_counts(DEMO) == counts
    held_back = 1 - 1 / DEMO.sequences.validation_every
    # AMOS is five sixths CT, ISLES and BraTS are MRI.
    assert items_of("CT", DEMO) == pytest.approx((10 * 600 + 500 + 3200) * held_back)
    assert items_of("MRI", DEMO) == pytest.approx((100 + 1800 + 2400) * held_back)


@pytest.mark.slow
def test_cost_follows_steps_batch_and_seeds(counts: Path) -> None:
    usual = hours_of(DEMO, counts)
    longer = hours_of(changed(pretrain__steps=1000), counts)
    assert longer["pretrain"] == pytest.approx(2 * usual["pretrain"], rel=0.05)
    assert longer["finetune"] == usual["finetune"]
    larger = hours_of(changed(pretrain__batch_size=32), counts)
    assert larger["pretrain"] == pytest.approx(2 * usual["pretrain"], rel=0.1)
    three = hours_of(changed(seeds=3), counts)
    for stage in ("pretrain", "finetune"):
        assert three[stage] == pytest.approx(3 * usual[stage])


@pytest.mark.slow
def test_kept_networks_take_the_disk_of_their_weights(counts: Path) -> None:
    smoke = read_yaml(ROOT / "workflow/scales/smoke.yaml")
    sizes = {}
    for keep in ("none", "one_seed", "all"):
        changes = {"finetune": {"keep_models": keep}, "seeds": 3}
        config = load_config(ROOT / "params.yaml", [smoke, changes])
        found = estimate(config, build_plan(config), kept=counts)
        sizes[keep] = found.totals("finetune").written
    one, every = (sizes[keep] - sizes["none"] for keep in ("one_seed", "all"))
    assert every == pytest.approx(3 * one)
    # Networks have some twenty thousand weights of four bytes in each of 45 rows.
    assert 5e5 < one < 5e7


def test_a_given_rate_replaces_that_of_the_named_gpu() -> None:
    slow, fast = (Assumptions(given=rate) for rate in (10.0, 20.0))
    cost = RunCost(matrix=7.2e16, convolution=0.0, precision="32-true")
    assert slow.hours(cost) == pytest.approx(2.0)
    assert fast.hours(cost) == pytest.approx(1.0)
    mixed = RunCost(matrix=1e15, convolution=1e15)
    usual = Assumptions()
    same = Assumptions(given=usual.products("16 bits"))
    assert same.hours(mixed) == pytest.approx(usual.hours(mixed))


def test_single_precision_is_slower() -> None:
    usual = Assumptions()
    times = [usual.hours(RunCost(matrix=1e15, precision=p)) for p in ("bf16-mixed", "32-true")]
    assert times[1] == pytest.approx(0.35 * 989 / (0.75 * 67) * times[0])


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


@pytest.mark.slow
def test_one_gpu_works_without_a_pause(paper: Estimate) -> None:
    wall = wall_hours(PAPER_PLAN, paper.job_hours(), 1)
    assert wall == pytest.approx(paper.totals().gpu_hours)


def test_cases_of_the_tasks_are_those_of_the_lists() -> None:
    assert cases("la", PAPER) == (72, 8, 20)
    assert cases("ricord", PAPER) == (194, 52, 84)
    assert cases("nodule", PAPER) == (1158, 165, 310)
    assert cases("task03_liver", PAPER) == (92, 13, 26)
    assert cases("nodule", DEMO) == DEMO.data.phantoms.classification_cases
    for row in CATALOGUE.values():
        assert row.parts is None or sum(row.parts) == row.volumes, row.name
    for name, task in DEMO.finetune.tasks.items():
        assert sum(cases(task.dataset, DEMO)) == content(task.dataset, DEMO).volumes, name


def test_assumptions_name_data_sets_and_fill_gaps_only() -> None:
    for name, row in CATALOGUE.items():
        assert row.assumed.spacing or row.options.get("spacing"), name
        assert None in (row.volumes, row.assumed.volumes), f"{name}: there is a count now"
        assert None in (row.size, row.assumed.size), f"{name}: there is a size now"
    for dataset in {r.config.dataset for r in PAPER_PLAN.runs.values() if r.stage == "download"}:
        assert content(dataset, PAPER).download, dataset
        assert content(dataset, PAPER).volumes, dataset


def test_prepared_shapes() -> None:
    liver = PAPER.finetune.tasks["task03_liver"]
    found = prepared_shape(content("task03_liver", PAPER), liver.data, 0.85)
    assert found == (335, 335, 432)
    ricord = PAPER.finetune.tasks["ricord"]
    assert prepared_shape(content("ricord", PAPER), ricord.data, 0.85) == (128, 128, 64)


def test_how_often_medcoss_rehearses() -> None:
    # 5 % of 1.2 million CT items are 60,000 beside 340,000 of MRI, in half of the steps.
    share = rehearsed(MedCoSSSettings(), PAPER)
    assert share == pytest.approx(0.5 * 60 / 400, rel=0.1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Path) -> Path:
    """A folder with the configuration and the scales, and no data."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "workflow/scales", tmp_path / "workflow/scales")
    (tmp_path / ".voxseq").mkdir()
    if counts.is_file():
        shutil.copy(counts, tmp_path / COUNTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSEQ_DATA", raising=False)
    return tmp_path


def call(*words: str) -> Result:
    return CliRunner().invoke(cli.cli, ["plan", *words])


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("scale", ["smoke", "demo", "open", "paper"])
def test_every_scale_is_estimated(scale: str) -> None:
    result = call("--scale", scale)
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()
    assert first[0] == f"expected for scale {scale}:"
    rows = [line.split() for line in first[2:14]]
    assert rows[0][0] == "download"
    assert any(row[0] == "total" for row in rows if row)
    assert "taken is NVIDIA H200" in result.output
    assert max(map(len, first)) <= 100


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
def test_a_slower_gpu_takes_longer() -> None:
    def hours(*words: str) -> float:
        lines = call("--scale", "paper", "--stage", "pretrain", *words).output.splitlines()
        (row,) = (line.split() for line in lines if line.startswith("pretrain"))
        return float(row[4].replace(",", ""))

    usual = hours()
    assert hours("--assume-tflops", "173.1") == pytest.approx(2 * usual, rel=0.01)
    # 989 TFLOP/s beside 312.
    assert hours("--device", "a100") == pytest.approx(usual * 989 / 312, rel=0.01)
    assert call("--scale", "paper", "--assume-tflops", "0").exit_code != 0
    assert call("--scale", "paper", "--device", "abacus").exit_code != 0


@pytest.mark.usefixtures("workspace")
def test_runs_instead_of_the_estimate() -> None:
    assert "pretrain/ours/s0" in call("--scale", "paper", "--runs", "--stage", "pretrain").output
    assert "finetune/la/ours/s0" in call("--stage", "finetune").output


@pytest.mark.usefixtures("workspace")
def test_an_unknown_scale_is_refused_with_those_there_are() -> None:
    result = call("--scale", "papr")
    assert isinstance(result.exception, VoxseqError)
    assert "papr" in result.exception.what
    assert "demo, beyond, open, paper, quick, smoke, study" in result.exception.hint
    assert overlay_of("demo") == ()


@pytest.mark.slow
def test_a_page_gets_the_tables_between_its_marks(workspace: Path) -> None:
    page = workspace / "page.md"
    page.write_text("a\n<!-- estimate: smoke stages -->\nold\n<!-- end -->\nb\n")
    assert call("--scale", "smoke", "--into", str(page)).exit_code == 0
    text = page.read_text()
    assert text.startswith("a\n<!-- estimate: smoke stages -->\n| stage |")
    assert text.endswith("<!-- end -->\nb\n")
    assert "old" not in text
    result = call("--scale", "quick", "--into", str(page))
    assert isinstance(result.exception, VoxseqError)
    assert page.read_text() == text


@pytest.mark.slow
def test_the_page_about_scaling_is_up_to_date(paper: Estimate) -> None:
    written = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    wanted = with_estimate(written, "paper", sections(PAPER, paper))
    diff = difflib.unified_diff(written.splitlines(), wanted.splitlines(), lineterm="", n=0)
    assert wanted == written, "repair: voxseq plan --scale paper --into docs/scaling.md\n" + (
        "\n".join(diff)
    )
