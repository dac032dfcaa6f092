"""The demo's fine-tuning settings on phantoms that no table uses.

On the phantoms of seed 0 (the demo's tables begin with seed 1) the network of every task is trained
from random weights, with three seeds, and scored on held-out cases by step, beside the trivial
baselines. A setting is sound where the network is above these, has stopped rising and hardly
depends on the seed. No pre-trained encoder is looked at, and no test case of a table.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from voxseq.base.digest import digest
from voxseq.base.files import read_json, write_json, write_text
from voxseq.config import Config, load_config, read_yaml
from voxseq.config.registry import ENCODER_NETWORKS
from voxseq.config.runs import FinetuneRun
from voxseq.data import examine, prepare
from voxseq.data.task_volumes import Volumes
from voxseq.finetune.baselines.run import BASELINES, Baseline
from voxseq.finetune.kinds import KINDS
from voxseq.finetune.recipe import Splits, choose_splits, limited_threads
from voxseq.finetune.training import TaskTraining, build_optimiser
from voxseq.models.networks import build_network, channels_last
from voxseq.plan import Plan, Run, build_plan
from voxseq.plan.context import RunContext
from voxseq.training.batches import stepwise
from voxseq.training.copies import travelling
from voxseq.training.loop import LoopConfig, fit
from voxseq.training.schedule import lr_factor

Measured = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs/demo-settings.md"
_PHANTOMS = {"data": {"phantoms": {"seed": 0}}}
#: Metric of each type of task.
METRIC = {"segmentation": "dice", "classification": "auc", "regression": "mae"}
_TITLES = {
    "mean_shape": "mean shape",
    "voxel_trees": "voxel trees",
    "majority": "majority",
    "intensity_logistic": "intensity and size",
    "histogram_logistic": "histogram, linear",
    "voxel_logistic": "voxels, linear",
}


_PAGE = """Generated phantoms: these numbers say nothing about medicine.

# Settings of the demo

Measured {dates} by `python -m benchmarks.demo_settings`, in {seconds} s of one core, data not
included.

On phantoms of seed 0, which no table uses (they begin with seed 1), UNETR and ViT are trained from
random weights with the settings of params.yaml, three seeds each, and scored on held-out cases by
step (mean Dice over cases and classes, or AUC, in %). Settings were chosen by such numbers and then
frozen; no pre-trained encoder was looked at. A setting is sound where the network is above the
trivial baselines, has stopped rising, and hardly depends on the seed.

| task | settings | cases | by step | last step | sd of seeds | by class | s a run |
|---|---|---|---|--:|--:|---|--:|
"""


def measure(config: Config, plan: Plan, task: str, seeds: Iterable[int], work: Path) -> Measured:
    """Scores of a task's random network and of its baselines on the held-out cases of seed 0.

    What was measured before with the same settings is not measured again.
    """
    preprocess, store = _prepared(plan, config.finetune.tasks[task].dataset, task, work)
    volumes = Volumes(store)
    first = _random_network(plan, task)
    splits = choose_splits(volumes, first)
    kind = first.recipe.type
    found: Measured = {"task": task, "type": kind, "steps": first.recipe.steps}
    found["sizes"] = {name: len(rows) for name, rows in vars(splits).items()}
    key = {"data": preprocess.fingerprint, "recipe": first.recipe.model_dump(mode="json")}
    found["runs"] = []
    for seed in seeds:
        run = first.model_copy(update={"seed": seed})
        place = work / "runs" / task / digest({**key, "run": run.model_dump(mode="json")})
        found["runs"].append(_once(place, partial(_trained, run, volumes, splits)))
    found["trivial"] = {}
    for name, baseline in BASELINES[kind].items():
        place = work / "baselines" / task / f"{name}-{digest(key)}"
        score = partial(_baseline, baseline, first.recipe, volumes, splits)
        found["trivial"][name] = _once(place, score)
    return found


def _once(place: Path, work: Callable[[Path], Measured]) -> Measured:
    """What ``work`` gives for an empty folder, kept beside it."""
    kept = place.with_suffix(".json")
    if not kept.exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        began = time.process_time()
        found = work(place)
        found["cpu"] = round(time.process_time() - began, 1)
        found["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
        write_json(kept, found)
        click.echo(f"{place.parent.name}: {found}")
    read: Measured = read_json(kept)
    return read


def _baseline(
    baseline: Baseline, recipe: Any, volumes: Volumes, splits: Splits, out: Path
) -> Measured:
    with limited_threads(1):
        baseline(out, recipe, volumes, splits)
    return {"score": _mean_score(out / "scores.csv", METRIC[recipe.type])}


def _random_network(plan: Plan, task: str) -> FinetuneRun:
    """The run of the shared encoder's network on a task from random weights, on all cases."""
    for run in plan.runs.values():
        own = run.config
        if run.stage != "finetune" or not isinstance(own, FinetuneRun) or own.task != task:
            continue
        if own.pretrained is None and own.network == ENCODER_NETWORKS[own.recipe.type]:
            return own
    raise click.UsageError(f"params.yaml has no network from random weights on {task}")


def _prepared(plan: Plan, dataset: str, task: str, work: Path) -> tuple[Run, Path]:
    """The run that prepares a task's volumes, and their store."""
    own = [run for run in plan.runs.values() if getattr(run.config, "dataset", "") == dataset]
    download = next(run for run in own if run.action == "download")
    preprocess = next(
        run for run in own if run.action == "preprocess" and run.config.task is not None
    )
    folder = _done(download, {}, work, examine.execute)
    return preprocess, _done(preprocess, {download.id: folder}, work, prepare.execute)


def _done(run: Run, inputs: Mapping[str, Path], work: Path, execute: Any) -> Path:
    """The results of a stage, made once."""
    out = work / "data" / f"{run.stage}-{run.fingerprint[:16]}"

    def stage(_: Path) -> Measured:
        shutil.rmtree(out / "results", ignore_errors=True)
        (out / "results").mkdir(parents=True)
        (out / "state").mkdir(exist_ok=True)
        execute(RunContext(run.id, run.config, out / "results", out / "state", inputs, None))
        return {"run": run.id}

    _once(out / "made", stage)
    return out / "results"


def _trained(run: FinetuneRun, volumes: Volumes, splits: Splits, out: Path) -> Measured:
    """Held-out scores by step of one training, and its seconds without validation."""
    kind, recipe = KINDS[run.recipe.type], run.recipe
    network = build_network(
        run.network,
        run.encoder,
        classes=recipe.outputs,
        features=getattr(recipe, "decoder_features", 1),
        seed=run.seed,
        settings=run.network_settings,
        in_channels=run.channels,
    )
    channels_last(network)
    trainable: TaskTraining[Any] = kind.training(network, recipe, volumes, splits.test)
    rows = kind.rows(recipe, volumes, splits.train, run.seed)
    optimiser = run.optimiser
    result = fit(
        trainable,
        lambda start: travelling(stepwise(rows, start, recipe.steps, 0), trainable),
        build_optimiser(network, optimiser, run.encoder.depth, run.precision),
        lr_factor(
            optimiser.schedule, optimiser.warmup_steps, recipe.steps, optimiser.final_lr_factor
        ),
        LoopConfig(
            steps=recipe.steps,
            select=trainable.select,
            mode="last",
            validate_every=recipe.validate_every,
            checkpoint_every=10 * recipe.steps,
            threads=1,
            clip_norm=optimiser.clip_norm,
        ),
        state=out / "state",
        out=out,
        run_config=run.model_dump(mode="json"),
    )
    with (out / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    metric = METRIC[recipe.type]
    curves: dict[str, list[float]] = {}
    for row in table:
        if row["split"] == "val" and row["name"].startswith(metric):
            curves.setdefault(row["name"], []).append(round(float(row["value"]), 4))
    return {"seed": run.seed, "curves": curves, "seconds": round(result.seconds, 1)}


def _mean_score(path: Path, metric: str) -> float:
    """The mean over cases and classes, as the tables take it."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == metric]
    labels = {row["label"] for row in rows}
    by_label = [[float(r["value"]) for r in rows if r["label"] == label] for label in labels]
    return round(float(np.mean([np.nanmean(values) for values in by_label])), 4)


def document(measured: list[Measured], config: Config) -> str:
    """The page of what was measured."""
    parts = [part for m in measured for part in (*m["runs"], *m["trivial"].values())]
    dates = sorted({part["date"] for part in parts})
    seconds = round(sum(part["cpu"] for part in parts))
    lines = [*_PAGE.format(dates=" to ".join(dates), seconds=seconds).splitlines()]
    lines += [_network_row(found, config) for found in measured]
    lines += ["", "## Trivial baselines, same cases", ""]
    for kind in ("segmentation", "classification"):
        own = [found for found in measured if found["type"] == kind]
        names = [*BASELINES[kind]]
        titles = " | ".join(_TITLES.get(name, name) for name in names)
        lines += [f"| task | {titles} | network |", "|---|" + "--:|" * (len(names) + 1)]
        for found in own:
            cells = [f"{100 * found['trivial'][name]['score']:.1f}" for name in names]
            cells.append(f"{100 * np.mean(_last(found)):.1f}")
            lines.append(f"| {found['task']} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _last(found: Mapping[str, Any]) -> list[float]:
    metric = METRIC[found["type"]]
    return [run["curves"][metric][-1] for run in found["runs"]]


def _network_row(found: Mapping[str, Any], config: Config) -> str:
    task, metric = config.finetune.tasks[found["task"]], METRIC[found["type"]]
    runs = found["runs"]
    means = np.mean([run["curves"][metric] for run in runs], axis=0)
    steps = [*range(task.validate_every, task.steps, task.validate_every), task.steps]
    curve = ", ".join(f"{step}: {100 * m:.1f}" for step, m in zip(steps, means, strict=True))
    names = [name for name in runs[0]["curves"] if name.startswith("dice_")]
    parts = [
        f"{name.removeprefix('dice_')} {100 * np.mean([r['curves'][name][-1] for r in runs]):.1f}"
        for name in (names if len(names) > 1 else [])
    ]
    last = _last(found)
    spread = f"{100 * np.std(last, ddof=1):.1f}" if len(last) > 1 else ""
    sizes, rate = found["sizes"], task.scratch
    settings = f"lr {rate.lr:g}" + (f", decoder {rate.decoder_lr:g}" if rate.decoder_lr else "")
    weights = getattr(task, "class_weights", None)
    settings += f", weights {', '.join(f'{w:g}' for w in weights)}" if weights else ""
    settings += f", augmentation {task.augmentation}"
    cells = [
        found["task"],
        settings,
        f"{sizes['train']}, held out {sizes['test']}",
        curve,
        f"{100 * np.mean(last):.1f}",
        spread,
        ", ".join(parts),
        f"{np.mean([run['seconds'] for run in runs]):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


@click.command()
@click.option("--task", "tasks", multiple=True, help="Only this task; may be given several times.")
@click.option("--seeds", default=3, show_default=True, help="Networks of each task.")
@click.option("--overlay", "overlays", multiple=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "artifacts/demo_settings",
    help="Folder of prepared data and of what was measured.",
)
@click.option("--table", "writes", is_flag=True, help=f"Write {TABLE.name} of what was measured.")
def main(
    tasks: tuple[str, ...], seeds: int, overlays: tuple[Path, ...], work: Path, writes: bool
) -> None:
    """Measure the demo's fine-tuning settings on held-out phantoms of seed 0."""
    config = load_config(ROOT / "params.yaml", [*map(read_yaml, overlays), _PHANTOMS])
    plan = build_plan(config)
    if not writes or tasks:
        for task in tasks or config.finetune.tasks:
            found = measure(config, plan, task, range(seeds), work)
            write_json(work / "measured" / f"{task}.json", found)
    if writes:
        files = [work / "measured" / f"{task}.json" for task in config.finetune.tasks]
        write_text(TABLE, document([read_json(path) for path in files if path.exists()], config))
        click.echo(f"wrote {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
