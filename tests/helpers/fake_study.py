"""A part of the demo's study with made-up but realistic files, for the tests of the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from tests.helpers import ROOT
from voxseq.config import load_config, read_yaml
from voxseq.config.report_run import FinetunedRun, PretrainedRun, ReportRun, ReportTask, ScoresRun
from voxseq.config.studies import ReportConfig
from voxseq.plan import build_plan
from voxseq.plan.outputs import seed_file
from voxseq.report.figures.run import execute_figures
from voxseq.report.seeds.gather import seed_scores
from voxseq.report.seeds.model import write_seed
from voxseq.report.tables.cost import execute_costs
from voxseq.report.tables.run import execute_tables

#: Title of the reference method, `ours`.
AR = "AR (autoregressive)"
#: Folder of what the report writes, below that of the study.
OUT = "out"
CASES = 12
PATIENTS = 40


@dataclass(frozen=True)
class Context:
    """The part of a run's context that the report reads; the folder of a run is its record too.

    The seeds' files lie beside ``out``.
    """

    config: ReportRun
    out: Path
    inputs: dict[str, Path]
    run_id: str = "report"

    @property
    def records(self) -> dict[str, Path]:
        """Run id → folder with cost.json."""
        return self.inputs

    def gather(self) -> Context:
        """Write the files of the seeds from what is in the runs' folders now."""
        study = self.config
        for seed in study.seeds:
            runs = tuple(run for run in study.runs if run.seed == seed)
            trained = tuple(run for run in study.pretrain_runs if run.seed == seed)
            ids = [run.id for run in (*runs, *trained)]
            if not self.inputs.keys() & ids:
                continue
            config = ScoresRun(
                scale=study.scale,
                seed=seed,
                study=study.study,
                phantoms=study.phantoms,
                runs=runs,
                pretrain_runs=trained,
                fingerprints=dict.fromkeys(ids, "0" * 16),
            )
            folder = self.out.parent / f"{self.out.name}_seeds/s{seed}"
            write_seed(folder / seed_file(seed), seed_scores(config, self.inputs))
            self.inputs[f"scores/s{seed}"] = folder
        return self

    def make(self, *stages: str) -> Path:
        """Run some of "tables", "costs" and "figures"; returns the folder with what they wrote."""
        self.gather()
        execute = {"tables": execute_tables, "costs": execute_costs, "figures": execute_figures}
        for stage in stages:
            execute[stage](self)  # type: ignore[operator]
            if stage == "tables":
                self.inputs["tables/all"] = self.out
        return self.out


@cache
def demo() -> ReportRun:
    """The demo's study as its figures read it, with three seeds and the rows beyond the paper.

    All methods are trained with fewer labels.
    """
    beyond = read_yaml(ROOT / "workflow/scales/beyond.yaml")
    more = {"seeds": 3, "label_ratio": {"methods": None}}
    config = load_config(ROOT / "params.yaml", [beyond, more])
    return build_plan(config).runs["figures/all"].config


def part(
    *,
    methods: Sequence[str] = ("unetr", "vit", "ours"),
    tasks: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    ratios: Sequence[str] = ("la", "ricord"),
    ablation: Sequence[str] = ("task06_lung", "ricord"),
    beyond: Sequence[str] = (),
    **changes: Any,
) -> ReportRun:
    """A part of the demo on real volumes: some methods, tasks and seeds, and tasks of each study.

    ``changes`` are fields of the study in place of the demo's.
    """
    study = demo()
    names = list(study.tasks if tasks is None else tasks)
    chosen = {"finetune": names, "label_ratio": ratios, "ablation": ablation, "beyond": beyond}
    runs = [
        run
        for run in _of_seeds(study.runs, seeds)
        if run.task in names and run.task in chosen[run.stage]
        and (run.method in methods or run.variant == "trivial")
    ]  # fmt: skip
    kept = {(run.stage, *run.series) for run in runs}
    variants = study.ablation if any(run.stage == "ablation" for run in runs) else {}
    update = {
        "phantoms": False,
        "report": ReportConfig(dpi=50),
        "methods": tuple(m for m in study.methods if m in methods)
        + tuple(m for m in methods if m not in study.methods),
        "tasks": {name: study.tasks[name] for name in names},
        "seeds": tuple(seeds),
        "ratio_tasks": tuple(name for name in ratios if name in names),
        "ablation_tasks": tuple(name for name in ablation if name in names),
        "ablation": variants,
        "beyond_tasks": tuple(name for name in beyond if name in names),
        "beyond": tuple(row for row in study.beyond if ("beyond", *row.series) in kept),
        "runs": tuple(runs),
        "pretrain_runs": tuple(
            run
            for run in study.pretrain_runs
            if run.method in methods
            and run.seed in seeds
            and (run.variant in variants or not run.variant or ("beyond", "ours", "raster") in kept)
        ),
    }
    return study.model_copy(update={**update, **changes})


def _of_seeds(runs: Sequence[FinetunedRun], seeds: Sequence[int]) -> list[FinetunedRun]:
    """The runs with these seeds, whatever seeds the demo has; a row of one seed keeps it."""
    drawn = {run.id.removesuffix(f"s{run.seed}") for run in runs if run.seed}
    found = []
    for run in (run for run in runs if not run.seed):
        name = run.id.removesuffix("s0")
        kept = seeds if name in drawn else (0,)
        found += [run.model_copy(update={"id": f"{name}s{n}", "seed": n}) for n in kept]
    return found


def build(
    folder: Path,
    study: ReportRun | None = None,
    *,
    missing: Sequence[str] = (),
    steps: int = 200,
    **options: Any,
) -> Context:
    """Write every run's files below ``folder`` except those whose id contains a ``missing``."""
    study = study or part(**options)
    inputs = {}
    for run in (*study.runs, *study.pretrain_runs):
        if any(word in run.id for word in missing):
            continue
        inputs[run.id] = folder / run.id
        inputs[run.id].mkdir(parents=True)
        if isinstance(run, FinetunedRun):
            _write_run(inputs[run.id], run, study.tasks[run.task], steps)
        else:
            _write_pretrain(inputs[run.id], run, steps)
    (folder / OUT).mkdir(parents=True, exist_ok=True)
    return Context(study, folder / OUT, inputs).gather()


def quiet(folder: Path, *tasks: str, **options: Any) -> Context:
    """A small study of some tasks with short curves and nothing besides."""
    return build(folder, **{"tasks": tasks, "ratios": (), "ablation": (), "steps": 40, **options})


def phantom_volume(seed: int, shape: tuple[int, ...] = (16, 16, 16)) -> np.ndarray:
    """A smooth volume with a bright ball in it, values 0..1."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    noise = ndimage.gaussian_filter(np.random.default_rng([seed, 1]).normal(size=shape), 1.0)
    ball = np.sqrt(np.square(grid).sum(0)) < 0.8
    return np.clip(0.6 * ball + 0.15 * noise, 0, 1).astype(np.float32)


def write_csv(path: Path, header: str | Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file; a text as ``header`` has commas between its words."""
    names = header.split(",") if isinstance(header, str) else header
    with path.open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([names, *rows])


def _write_run(folder: Path, run: FinetunedRun, task: ReportTask, steps: int) -> None:
    rng = np.random.default_rng([sum(map(ord, run.id)), run.seed])
    skill = 0.62 + 0.06 * (run.method == "ours") - 0.1 * (1 - run.ratio)
    sizes = _WRITERS[task.type](folder, task, skill, rng)
    curve = [(s, "train", "loss", 1.2 * np.exp(-s / 60) + 0.2) for s in range(0, steps, 10)]
    for step in range(20, steps + 1, 20):
        value = skill * (1 - np.exp(-step / 50)) + 0.02 * rng.normal()
        curve += [(step, "val", "loss", 1 - value), (step, "val", task.metrics[0], value)]
    write_csv(folder / "metrics.csv", "step,split,name,value", curve)
    sizes["n_train"] = round(sizes["n_train"] * run.ratio)
    (folder / "summary.json").write_text(json.dumps({**sizes, "parameters": 1_000_000}))
    (folder / "cost.json").write_text(json.dumps({"seconds": 31.5, "peak_memory_mb": 812.0}))


def _write_segmentation(
    folder: Path, task: ReportTask, skill: float, rng: np.random.Generator
) -> dict[str, int]:
    """Dice of each case and class, an example, and the worst case, which is the example moved."""
    hardness = np.random.default_rng([len(task.title), 3]).normal(0, 0.08, CASES)
    levels = 0.2 * np.arange(len(task.labels))
    dice = skill - levels + hardness[:, None] + 0.03 * rng.normal(size=(CASES, len(levels)))
    dice = np.clip(dice, 0, 1).round(6)
    dice[0, 1:] = np.nan
    cases = [f"case_{number:02d}" for number in range(CASES)]
    rows = [
        (case, case, label, "dice", value)
        for case, values in zip(cases, dice, strict=True)
        for label, value in zip(task.labels, values, strict=True)
    ]
    if task.surface:
        rows += _surfaces(task, cases, dice)
    write_csv(folder / "scores.csv", "case,subject,label,metric,value", rows)
    x, y = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij")
    truth = ((x - 0.1) ** 2 + (y + 0.1) ** 2 < 0.12).astype(np.uint8)
    truth[(x - 0.2) ** 2 + (y + 0.1) ** 2 < 0.02] = len(task.labels)
    image = (0.5 * (x**2 / 0.8 + y**2 / 0.5 < 1) + 0.2 * truth).astype(np.float32)
    moved = np.roll(truth, round(10 - 10 * skill), 0)
    planes = {"image": image[..., None], "truth": truth[..., None]}
    write_slices(folder / "example.npz", cases[0], **planes, prediction=moved[..., None])
    means = np.nanmean(dice, axis=1)
    # Three slices, in which the structure grows smaller.
    fading = np.stack([truth, truth, np.where(x > 0.1, truth, 0)], axis=2)
    write_slices(
        folder / "worst.npz", cases[int(np.argmin(means))], score=means.min(),
        image=np.repeat(image[..., None], 3, axis=2), truth=fading,
        prediction=np.repeat(np.roll(moved, 2)[..., None], 3, axis=2),
        hd95=np.full(len(task.labels), 4.5), volumes=np.outer([10.0, 8.0], np.ones(len(levels))),
    )  # fmt: skip
    return {"n_train": 28, "n_val": 4, "n_test": CASES}


def write_slices(path: Path, case: str, **arrays: Any) -> None:
    """Slices of a case as a run keeps them: example.npz or worst.npz."""
    arrays = {"image": phantom_volume(1)[:, :, 4:12:2], **arrays}
    numbers = 4 + 2 * np.arange(arrays["image"].shape[2])
    facts = {"main": 0, "depth": 16, "spacing": np.array([1.5, 1.5, 3.0]), "oriented": True}
    np.savez(path, **{"numbers": numbers, "case": case, **facts, **arrays})


def _surfaces(task: ReportTask, cases: Sequence[str], dice: np.ndarray) -> list[tuple[Any, ...]]:
    """Surface Dice and HD95 that go with Dice; HD95 of the last case is undefined."""
    rows: list[tuple[Any, ...]] = []
    for case, values in zip(cases, dice, strict=True):
        for label, value in zip(task.labels, values, strict=True):
            distance = np.nan if case == cases[-1] else 40 * (1 - value)
            rows.append((case, case, label, "surface_dice", value / 2))
            rows.append((case, case, label, "hd95", distance))
    return rows


def _write_classification(
    folder: Path, task: ReportTask, skill: float, rng: np.random.Generator
) -> dict[str, int]:
    """Two classes or more."""
    write = _write_many_classes if task.has_many_classes else _write_two_classes
    return write(folder, task, skill, rng)


def _write_many_classes(
    folder: Path, task: ReportTask, skill: float, rng: np.random.Generator
) -> dict[str, int]:
    """Probabilities of each class, their scores, and the case that is worst."""
    count = len(task.labels)
    target = np.arange(PATIENTS) % count
    logit = 4 * skill * np.eye(count)[target] + rng.normal(size=(PATIENTS, count))
    chance = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    names = [f"p{i:03d}" for i in range(PATIENTS)]
    columns = [f"probability_{label}" for label in task.labels]
    rows = [(n, n, t, *c) for n, t, c in zip(names, target, chance, strict=True)]
    write_csv(folder / "predictions.csv", ["case", "subject", "target", *columns], rows)
    areas = [roc_auc_score(target == k, chance[:, k]) for k in range(count)]
    scores = [("", "", "", "auc", np.mean(areas))]
    scores += [("", "", "", "accuracy", (chance.argmax(axis=1) == target).mean())]
    named = zip(task.labels, areas, strict=True)
    scores += [("", "", label, "auc", area) for label, area in named]
    write_csv(folder / "scores.csv", "case,subject,label,metric,value", scores)
    given = chance[np.arange(PATIENTS), target]
    worst = int(given.argmin())
    write_slices(
        folder / "worst.npz", names[worst], truth=np.uint8(target[worst]),
        prediction=np.uint8(chance[worst].argmax()), score=given[worst],
    )  # fmt: skip
    return {"n_train": 160, "n_val": 60, "n_test": PATIENTS}


def _write_regression(
    folder: Path, task: ReportTask, skill: float, rng: np.random.Generator
) -> dict[str, int]:
    """Values, their scores, and the case with the largest error."""
    target = 20 + 60 * np.random.default_rng([11]).random(PATIENTS)
    value = target + 25 * (1 - skill) * rng.normal(size=PATIENTS)
    names = [f"p{i:03d}" for i in range(PATIENTS)]
    rows = list(zip(names, names, target, value, strict=True))
    write_csv(folder / "predictions.csv", "case,subject,target,value", rows)
    error = np.abs(value - target)
    scores = {
        "mae": error.mean(),
        "r2": 1 - np.square(error).sum() / np.square(target - target.mean()).sum(),
        "correlation": np.corrcoef(target, value)[0, 1],
    }
    scored = [("", "", "", name, value) for name, value in scores.items()]
    write_csv(folder / "scores.csv", "case,subject,label,metric,value", scored)
    worst = int(error.argmax())
    write_slices(
        folder / "worst.npz", names[worst], truth=target[worst],
        prediction=value[worst], score=error[worst],
    )  # fmt: skip
    return {"n_train": 160, "n_val": 60, "n_test": PATIENTS}


def _write_two_classes(
    folder: Path, task: ReportTask, skill: float, rng: np.random.Generator
) -> dict[str, int]:
    """Probabilities, their scores, and the case whose true class has the lowest probability."""
    target = np.arange(PATIENTS) % 2
    hardness = np.random.default_rng([9, 3]).normal(0, 1, PATIENTS)
    logit = 3 * (skill - 0.3) * (target - 0.5) + 0.7 * hardness + 0.4 * rng.normal(size=PATIENTS)
    probability = (1 / (1 + np.exp(-logit))).round(6)
    names = [f"p{i:03d}" for i in range(PATIENTS)]
    rows = list(zip(names, names, target, probability, strict=True))
    write_csv(folder / "predictions.csv", "case,subject,target,probability", rows)
    scores = {
        "auc": roc_auc_score(target, probability),
        "accuracy": ((probability > 0.5) == target).mean(),
    }
    scored = [("", "", "", name, round(float(value), 6)) for name, value in scores.items()]
    write_csv(folder / "scores.csv", "case,subject,label,metric,value", scored)
    given = np.where(target, probability, 1 - probability)
    worst = int(np.argmin(given))
    write_slices(
        folder / "worst.npz", names[worst], truth=np.uint8(target[worst]),
        prediction=np.uint8(1 - target[worst]), score=given[worst],
    )  # fmt: skip
    return {"n_train": 160, "n_val": 60, "n_test": PATIENTS}


def _write_pretrain(folder: Path, run: PretrainedRun, steps: int) -> None:
    rows: list[tuple[Any, ...]] = []
    for step in range(5, steps + 1, 5):
        loss = 0.55 + 0.45 * np.exp(-step / 60)
        rows.append((step, "train", "loss", loss))
        if step % 20 == 0:
            # SimCLR is the one whose features collapse.
            collapsed = run.method == "simclr" and step > steps // 2
            rows.append((step, "val", "loss", loss + 0.02))
            rows.append((step, "val", "feature_sd", 2e-4 if collapsed else 0.1 + step / 4000))
            rows.append((step, "val", "effective_rank", 1.2 if collapsed else 8 + step / 50))
    write_csv(folder / "metrics.csv", "step,split,name,value", rows)
    sizes = {"parameters": 458_944, "encoder_parameters": 452_736}
    (folder / "summary.json").write_text(json.dumps(sizes))
    (folder / "cost.json").write_text(json.dumps({"seconds": 120.0, "peak_memory_mb": 950.0}))


_WRITERS: Mapping[str, Callable[..., dict[str, int]]] = {
    "segmentation": _write_segmentation,
    "classification": _write_classification,
    "regression": _write_regression,
}
