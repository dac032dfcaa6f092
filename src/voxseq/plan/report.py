"""Runs that make tables and figures."""

from __future__ import annotations

from voxseq.config import Config
from voxseq.plan.beyond import ControlRow
from voxseq.plan.builder import Builder
from voxseq.plan.data import reading_settings
from voxseq.plan.model import Settings, dump
from voxseq.plan.training import ResultKey, in_table_order


def add_report_runs(
    builder: Builder, config: Config, cells: list[ResultKey], beyond: list[ControlRow]
) -> None:
    """Tables and figures, which read all that was trained."""
    # Sorted, because the order of keys in a file must not matter: DVC does not see it, and the
    # resolved configuration that jobs read has sorted keys.
    cells = sorted(cells, key=lambda cell: cell.id)
    trainings = (run for run in builder.runs.values() if run.action == "pretrain")
    pretrained = sorted(trainings, key=lambda run: run.id)
    study: Settings = {
        "scale": config.scale,
        "phantoms": config.data.root is None,
        "report": dump(config.report),
        "methods": in_table_order([*config.finetune.scratch, *config.pretrain.methods]),
        "tasks": {name: dump(task) for name, task in sorted(config.finetune.tasks.items())},
        "seeds": list(config.finetune.seeds),
        "ratios": [1.0, *(r for r in config.label_ratio.ratios if r < 1.0)],
        "ratio_tasks": list(config.label_ratio.tasks),
        "ablation_tasks": list(config.ablation.tasks),
        "ablation": {k: dump(v) for k, v in sorted(config.ablation.variants.items())},
        "beyond_tasks": list(config.beyond.tasks),
        "beyond": [{"key": f"{row.method}.{row.variant}", **vars(row)} for row in beyond],
        "runs": [vars(cell) for cell in cells],
        "pretrain_runs": [
            {
                "id": run.id,
                "method": run.config.method,
                "variant": run.id.split("/")[-1] if run.stage != "pretrain" else None,
                "sequences": dump(run.config.sequences),
            }
            for run in pretrained
        ],
    }
    trained = [*(cell.id for cell in cells), *(run.id for run in pretrained)]
    builder.add("tables", "tables", "all", study, trained)
    figure_study = {
        **study,
        "sequences": dump(reading_settings(config.sequences)),
        "encoder": dump(config.encoder),
        "token_order": config.pretrain.methods.get("ours", {}).get("token_order", "patch_major"),
    }
    data = [r for r in builder.runs if r.startswith(("sequences/", "preprocess/source/"))]
    builder.add("figures", "figures", "all", figure_study, [*trained, *data, "tables/all"])
