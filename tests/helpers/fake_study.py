"""A finished study with made-up but realistic files, for the tests of the report."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from voxseq.config.data import SequencesConfig, SourceConfig

SEGMENTATION = {
    "task03_liver": ("Task03 Liver", ("liver",)),
    "task06_lung": ("Task06 Lung", ("cancer",)),
    "task07_pancreas": ("Task07 Pancreas", ("pancreas", "cancer")),
    "task08_hepaticvessel": ("Task08 Hepatic vessel", ("vessel", "tumour")),
    "task09_spleen": ("Task09 Spleen", ("spleen",)),
    "task10_colon": ("Task10 Colon", ("cancer",)),
    "la": ("Left atrium", ("left atrium",)),
}
CLASSIFICATION = {
    "ricord": ("RICORD", ("negative", "COVID-19")),
    "nodule": ("LIDC-IDRI nodule", ("benign", "malignant")),
}
ABLATION = {
    "single_images": {"title": "No sequences", "sequences": False},
    "causal": {"title": "No random start", "attention": "causal"},
    "no_spatial": {"title": "Without spatial", "without": "spatial"},
    "no_contrast": {"title": "Without contrast", "without": "contrast"},
    "no_semantic": {"title": "Without semantic", "without": "semantic"},
    "stride_1": {"title": "Stride 1", "stride": 1},
    "stride_4": {"title": "Stride 4", "stride": 4},
    "raster": {"title": "Raster token order", "token_order": "raster"},
}
SEQUENCES = SequencesConfig(
    sources=(
        SourceConfig(dataset="amos22", kind="spatial"),
        SourceConfig(dataset="brats23", kind="contrast"),
        SourceConfig(dataset="deeplesion", kind="semantic"),
    )
).model_dump(mode="json")
#: Rows of Table 5 in the order of the plan; each is compared with its last two words.
BEYOND = (
    ("Token order", "Ours, tokens in raster order", "ours", "raster", "ours", ""),
    ("Recipe and weights", "Ours, recipe for random weights", "ours", "scratch_recipe", "ours", ""),
    ("Frozen encoder", "Random weights", "vit", "frozen", "ours", "frozen"),
    ("Frozen encoder", "Ours", "ours", "frozen", "ours", "frozen"),
    ("Trivial baselines", "Mean shape", "mean_shape", "trivial", "ours", ""),
    ("Trivial baselines", "Majority class", "majority", "trivial", "ours", ""),
)
#: Methods with a network for one type of task only.
ONLY_SEGMENTATION = ("unetr", "unet3d")
ONLY_CLASSIFICATION = ("vit", "resnet")
#: Every row of Tables 1 and 2.
ALL_METHODS = (
    *(*ONLY_SEGMENTATION, *reversed(ONLY_CLASSIFICATION)),
    *("simclr", "moco_v3", "dino", "pcrlv2", "mae3d", "medcoss", "ours"),
)
CASES = 12
PATIENTS = 40


@dataclass(frozen=True)
class Context:
    """The part of a run's context that the report reads."""

    config: dict[str, Any]
    out: Path
    inputs: dict[str, Path]
    run_id: str = "report"

    @property
    def records(self) -> dict[str, Path]:
        """The made-up files of a run lie in one folder, its record included."""
        return self.inputs


def build(
    folder: Path,
    *,
    methods: tuple[str, ...] = ("unetr", "vit", "ours"),
    tasks: tuple[str, ...] = (*SEGMENTATION, *CLASSIFICATION),
    seeds: tuple[int, ...] = (0, 1, 2),
    ratio_tasks: tuple[str, ...] = ("la", "ricord"),
    ablation_tasks: tuple[str, ...] = ("task06_lung", "ricord"),
    missing: tuple[str, ...] = (),
    steps: int = 200,
    beyond_tasks: tuple[str, ...] = (),
) -> Context:
    """Write every run's files below ``folder`` except those whose id contains a ``missing``."""
    all_tasks = {name: _task(name) for name in tasks}
    runs = _runs(methods, all_tasks, seeds, ratio_tasks, ablation_tasks)
    runs += [run for task in beyond_tasks for run in _beyond_runs(task, seeds)]
    pretrain = _pretrain_runs(methods, bool(ablation_tasks))
    inputs = {}
    for run in runs:
        if not any(part in run["id"] for part in missing):
            inputs[run["id"]] = _write_run(folder / run["id"], run, all_tasks[run["task"]], steps)
    for run in pretrain:
        if not any(part in run["id"] for part in missing):
            inputs[run["id"]] = _write_pretrain(folder / run["id"], run, steps)
    config = {
        "scale": "demo",
        "report": {"bootstrap_samples": 200},
        "methods": list(methods),
        "tasks": all_tasks,
        "seeds": list(seeds),
        "ratios": [1.0, 0.5, 0.25, 0.1],
        "ratio_tasks": list(ratio_tasks),
        "ablation_tasks": list(ablation_tasks),
        "ablation": ABLATION if ablation_tasks else {},
        **({"beyond": _beyond(), "beyond_tasks": list(beyond_tasks)} if beyond_tasks else {}),
        "runs": runs,
        "pretrain_runs": pretrain,
        "results": "results",
        "encoder": {},
        "sequences": SEQUENCES,
        "token_order": "patch_major",
    }
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    return Context(json.loads(json.dumps(config)), out, inputs)


def phantom_volume(seed: int, shape: tuple[int, int, int] = (16, 16, 16)) -> np.ndarray:
    """A smooth volume with a bright body and a darker organ, values 0..1."""
    rng = np.random.default_rng([seed, 1])
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    body = np.sqrt((grid**2).sum(0) / 1.6) < 0.8
    organ = np.sqrt(((grid - rng.uniform(-0.3, 0.3, (3, 1, 1, 1))) ** 2).sum(0)) < 0.4
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    volume = 0.6 * body + 0.3 * organ * rng.choice([-1, 1]) + 0.15 * noise
    return np.clip(volume, 0, 1).astype(np.float32)


def _task(name: str) -> dict[str, Any]:
    if name in SEGMENTATION:
        title, labels = SEGMENTATION[name]
        grid = "native" if name == "la" else "stored"
        kind = {"type": "segmentation", "score_grid": grid}
    else:
        title, labels = CLASSIFICATION[name]
        kind = {"type": "classification"}
    return {**kind, "title": title, "dataset": name, "labels": list(labels)}


def _runs(
    methods: tuple[str, ...],
    tasks: dict[str, dict[str, Any]],
    seeds: tuple[int, ...],
    ratio_tasks: tuple[str, ...],
    ablation_tasks: tuple[str, ...],
) -> list[dict[str, Any]]:
    runs = []
    for task, spec in tasks.items():
        is_segmentation = spec["type"] == "segmentation"
        lacking = ONLY_CLASSIFICATION if is_segmentation else ONLY_SEGMENTATION
        for method in (m for m in methods if m not in lacking):
            for ratio in (1.0, 0.5, 0.25, 0.1) if task in ratio_tasks else (1.0,):
                stage = "finetune" if ratio == 1.0 else "label_ratio"
                runs += [_run(stage, task, method, None, ratio=ratio, seed=seed) for seed in seeds]
        if task in ablation_tasks:
            runs += [
                _run("ablation", task, "ours", variant, ratio=1.0, seed=seed)
                for variant in ABLATION
                for seed in seeds
            ]
    return runs


def _run(
    stage: str, task: str, method: str, variant: str | None, *, ratio: float, seed: int
) -> dict[str, Any]:
    name = f"{stage}/{task}/{variant or method}/r{round(100 * ratio)}/s{seed}"
    keys = ("id", "stage", "task", "method", "variant", "ratio", "seed")
    return dict(zip(keys, (name, stage, task, method, variant, ratio, seed), strict=True))


def _beyond() -> list[dict[str, str]]:
    names = ("group", "title", "method", "variant", "reference_method", "reference_variant")
    return [dict(zip(("key", *names), (f"{r[2]}.{r[3]}", *r), strict=True)) for r in BEYOND]


def _beyond_runs(task: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Trivial baselines and our linear probe have one seed, and not every task has every row."""
    is_segmentation = task in SEGMENTATION
    lacking = "majority" if is_segmentation else "mean_shape"
    runs = []
    for _, _, method, variant, *_ in BEYOND:
        probe = variant == "frozen" and method == "ours" and not is_segmentation
        chosen = seeds[:1] if variant == "trivial" or probe else seeds
        if method != lacking and (method != "vit" or not is_segmentation):
            for seed in chosen:
                run = _run("beyond", task, method, variant, ratio=1.0, seed=seed)
                run["id"] = f"beyond/finetune/{task}/{method}_{variant}/s{seed}"
                runs.append(run)
    return runs


def _pretrain_runs(methods: tuple[str, ...], ablation: bool) -> list[dict[str, Any]]:
    names = [(m, None) for m in methods if m not in ONLY_SEGMENTATION + ONLY_CLASSIFICATION]
    names += [("ours", variant) for variant in ABLATION] if ablation else []
    return [
        {"id": f"pretrain/{v or m}", "method": m, "variant": v, "sequences": SEQUENCES}
        for m, v in names
    ]


def _write_run(folder: Path, run: dict[str, Any], task: dict[str, Any], steps: int) -> Path:
    folder.mkdir(parents=True)
    number = sum(map(ord, run["id"]))
    rng = np.random.default_rng([number, run["seed"]])
    skill = 0.62 + 0.06 * (run["method"] == "ours") - 0.1 * (1 - run["ratio"])
    if task["type"] == "segmentation":
        rows = _dice_rows(task, skill, rng)
        _write_example(folder / "example.npz", run, task, skill)
        _write_worst_segmentation(folder, rows)
    else:
        rows = _classification_rows(folder, skill, rng)
        _write_worst_classification(folder)
    _csv(folder / "scores.csv", ("case", "label", "metric", "value"), rows)
    _csv(folder / "validation.csv", ("case", "label", "metric", "value"), rows)
    curve = [(s, "train", "loss", 1.2 * np.exp(-s / 60) + 0.2) for s in range(0, steps, 10)]
    name = "dice" if task["type"] == "segmentation" else "auc"
    for step in range(20, steps + 1, 20):
        value = skill * (1 - np.exp(-step / 50)) + 0.02 * rng.normal()
        curve += [(step, "val", "loss", 1 - value), (step, "val", name, value)]
    _csv(folder / "metrics.csv", ("step", "split", "name", "value"), curve)
    sizes = {"n_train": round(28 * run["ratio"]), "n_val": 4, "n_test": CASES}
    if task["type"] == "classification":
        sizes = {"n_train": round(160 * run["ratio"]), "n_val": 60, "n_test": PATIENTS}
    _json(folder / "summary.json", {**sizes, "selected_step": 180, "parameters": 1_000_000})
    _json(folder / "cost.json", {"seconds": 31.5, "peak_memory_mb": 812.0})
    return folder


def _dice_rows(task: dict[str, Any], skill: float, rng: np.random.Generator) -> list[Any]:
    rows = []
    hardness = np.random.default_rng([len(task["title"]), 3]).normal(0, 0.08, CASES)
    for case in range(CASES):
        for index, label in enumerate(task["labels"]):
            value = np.clip(skill - 0.2 * index + hardness[case] + 0.03 * rng.normal(), 0, 1)
            shown = "nan" if index and case == 0 else f"{value:.6f}"
            rows.append((f"case_{case:02d}", label, "dice", shown))
    return rows


def _classification_rows(folder: Path, skill: float, rng: np.random.Generator) -> list[Any]:
    from sklearn.metrics import roc_auc_score

    target = np.arange(PATIENTS) % 2
    hardness = np.random.default_rng([9, 3]).normal(0, 1, PATIENTS)
    logit = 3 * (skill - 0.3) * (target - 0.5) + 0.7 * hardness + 0.4 * rng.normal(size=PATIENTS)
    probability = 1 / (1 + np.exp(-logit))
    rows = [(f"p{i:03d}", t, f"{p:.6f}") for i, (t, p) in enumerate(zip(target, probability))]  # noqa: B905
    _csv(folder / "predictions.csv", ("case", "target", "probability"), rows)
    auc = roc_auc_score(target, probability.round(6))
    accuracy = ((probability > 0.5) == target).mean()
    return [("", "", "auc", f"{auc:.6f}"), ("", "", "accuracy", f"{accuracy:.6f}")]


def _write_example(path: Path, run: dict[str, Any], task: dict[str, Any], skill: float) -> None:
    rng = np.random.default_rng([len(run["task"]), 5])
    x, y = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij")
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    centre = rng.uniform(-0.25, 0.25, 2)
    truth = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 0.12).astype(np.uint8)
    if len(task["labels"]) > 1:
        truth[(x - centre[0] - 0.1) ** 2 + (y - centre[1]) ** 2 < 0.02] = 2
    image = 0.5 * body + 0.2 * (truth > 0) + 0.15 * (truth == 2)
    image = ndimage.gaussian_filter(image, 0.7) + 0.04 * rng.normal(size=x.shape)
    shift = round(4 * (0.75 - skill) * 5)
    prediction = np.roll(truth, (shift, -shift // 2), (0, 1))
    np.savez(path, image=image.astype(np.float32), truth=truth, prediction=prediction)


def _write_worst_segmentation(folder: Path, rows: list[Any]) -> None:
    """The case with the lowest mean Dice over classes; its picture is the example, moved."""
    values: dict[str, list[float]] = {}
    for case, _, _, value in rows:
        values.setdefault(case, []).append(float(value))
    score, case = min((float(np.nanmean(found)), case) for case, found in values.items())
    with np.load(folder / "example.npz") as arrays:
        image, truth = arrays["image"], arrays["truth"]
    prediction = np.roll(truth, (4, 2), (0, 1))
    np.savez(
        folder / "worst.npz", image=image, truth=truth, prediction=prediction, case=case,
        score=np.float64(score),
    )  # fmt: skip


def _write_worst_classification(folder: Path) -> None:
    """The case whose true class has the lowest probability."""
    with (folder / "predictions.csv").open() as handle:
        rows = [
            (r["case"], int(r["target"]), float(r["probability"])) for r in csv.DictReader(handle)
        ]
    score, case, target = min((p if t else 1 - p, case, t) for case, t, p in rows)
    np.savez(
        folder / "worst.npz", image=phantom_volume(len(case))[:, :, 8], truth=np.uint8(target),
        prediction=np.uint8(target if score > 0.5 else 1 - target), case=case,
        score=np.float64(score),
    )  # fmt: skip


def _write_pretrain(folder: Path, run: dict[str, Any], steps: int) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng([len(run["id"]), 11])
    rows = []
    for step in range(5, steps + 1, 5):
        loss = 0.55 + 0.45 * np.exp(-step / 60)
        rows.append((step, "train", "loss", loss + 0.03 * rng.normal()))
        if step % 20 == 0:
            rows.append((step, "val", "loss", loss + 0.02))
            # SimCLR is the one whose features collapse.
            collapsed = run["method"] == "simclr" and step > steps // 2
            rows.append((step, "val", "feature_sd", 2e-4 if collapsed else 0.1 + step / 4000))
            rows.append((step, "val", "effective_rank", 1.2 if collapsed else 8 + step / 50))
    _csv(folder / "metrics.csv", ("step", "split", "name", "value"), rows)
    sizes = {"parameters": 458_944, "encoder_parameters": 452_736}
    _json(folder / "summary.json", {"selected_step": steps, **sizes})
    _json(folder / "cost.json", {"seconds": 120.0, "peak_memory_mb": 950.0})
    return folder


def _csv(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
