"""Studies of a user's own data, of any shape, for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxseq.config.registry import METHODS
from voxseq.config.report_run import ControlRow, ReportRun
from voxseq.config.studies import ReportConfig

#: One task of each kind that the report tells apart; none is on a data set of the catalogue.
TASKS: dict[str, dict[str, Any]] = {
    "organs": {
        "type": "segmentation",
        "title": "Three organs",
        "labels": ("liver", "left kidney", "spleen"),
        "score_grid": "native",
        "surface": True,
    },
    "mask": {
        "type": "segmentation",
        "title": "One mask",
        "labels": ("lesion",),
        "score_grid": "stored",
    },
    "grade": {
        "type": "classification",
        "title": "Grade of the tumour",
        "labels": ("none", "low grade", "high, grade", "unknown"),
    },
    "sick": {"type": "classification", "title": "Sick or not", "labels": ("healthy", "sick")},
    "age": {"type": "regression", "title": "Age at scan", "target": "age", "unit": "years"},
    "index": {"type": "regression", "title": "Some index", "target": "index"},
}
#: An encoder from elsewhere and its title.
OUTSIDE = {"authors": "Weights of the authors"}
METHOD_NAMES = ("unetr", "unet3d", "resnet", "vit", "mae3d", "ours", "authors")
_FROZEN = "Frozen encoder"


def own(
    tasks: Sequence[str] = tuple(TASKS),
    methods: Sequence[str] = ("unetr", "vit", "ours"),
    *,
    seeds: Sequence[int] = (0, 1),
    ratios: Sequence[str] = (),
    ablation: Sequence[str] = (),
    beyond: Sequence[str] = (),
    **changes: Any,
) -> ReportRun:
    """A study of some of ``TASKS``.

    Args:
        tasks: names of tasks.
        methods: names of methods, of ``OUTSIDE`` or of voxseq.
        seeds: whole chains.
        ratios: tasks with fewer labels.
        ablation: tasks of the ablation, if "ours" is a method.
        beyond: tasks of the controls.
        changes: further fields of the study.
    """
    found: dict[str, Any] = {
        "scale": "mine",
        "report": ReportConfig(dpi=20),
        "methods": tuple(methods),
        "titles": {name: OUTSIDE[name] for name in methods if name in OUTSIDE},
        "tasks": {name: {"name": name, "dataset": f"my_{name}", **TASKS[name]} for name in tasks},
        "seeds": tuple(seeds),
        "ratios": (1.0, 0.5) if ratios else (1.0,),
        "ratio_tasks": tuple(ratios),
        "runs": (),
        "pretrain_runs": [
            {"id": f"pretrain/{name}/s{seed}", "method": name, "seed": seed, "stride": 8}
            for seed in seeds
            for name in methods
            if name in METHODS and METHODS[name].is_pretrained
        ],
        **changes,
    }
    study = ReportRun.model_validate(found)
    runs = [*_runs(study, "finetune", tasks, 1.0), *_runs(study, "label_ratio", ratios, 0.5)]
    if "ours" in methods and ablation:
        found["ablation_tasks"] = tuple(ablation)
        found["ablation"] = {"causal": {"title": "Causal attention", "attention": "causal"}}
        found["pretrain_runs"] += [
            {
                "id": f"ablation/pretrain/causal/s{seed}",
                **{"method": "ours", "variant": "causal", "seed": seed, "stride": 8},
            }
            for seed in seeds
        ]
        runs += [
            _run("ablation", task, "ours", seed, "causal") for task in ablation for seed in seeds
        ]
    if beyond:
        rows = [(m, t) for t in beyond for m in study.methods_of(study.tasks[t].type)]
        runs += [_run("beyond", t, m, seed, "frozen") for m, t in rows for seed in seeds]
        reference = ("ours", "frozen") if "ours" in methods else ("", "")
        found["beyond_tasks"] = tuple(beyond)
        found["beyond"] = tuple(
            ControlRow(_FROZEN, study.title_of(m), m, "frozen", *reference)
            for m in dict.fromkeys(m for m, _ in rows)
        )
    return ReportRun.model_validate({**found, "runs": runs})


def _runs(study: ReportRun, stage: str, tasks: Sequence[str], ratio: float) -> list[dict[str, Any]]:
    return [
        _run(stage, task, method, seed, ratio=ratio)
        for task in tasks
        for method in study.methods_of(study.tasks[task].type)
        for seed in study.seeds
    ]


def _run(
    stage: str, task: str, method: str, seed: int, variant: str = "", ratio: float = 1.0
) -> dict[str, Any]:
    name = "/".join(filter(None, (stage, task, method, variant, f"s{seed}")))
    run = {"id": name, "stage": stage, "task": task, "method": method, "seed": seed}
    return {**run, "variant": variant, "ratio": ratio}
