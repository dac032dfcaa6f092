"""The function that does each action. Only those import this who call them or read their code."""

from __future__ import annotations

from collections.abc import Mapping

#: Action → function that does it.
ACTIONS: Mapping[str, str] = {
    "download": "voxseq.data.examine:execute",
    "preprocess": "voxseq.data.prepare:execute",
    "sequences": "voxseq.sequences.build:execute",
    "pretrain": "voxseq.pretrain.run:execute",
    "adopt": "voxseq.finetune.adopt:execute",
    "finetune": "voxseq.finetune.run:execute",
    "probe": "voxseq.finetune.baselines.probe:execute",
    "baseline": "voxseq.finetune.baselines.run:execute",
    "scores": "voxseq.report.seeds.gather:execute",
    "tables": "voxseq.report.tables.run:execute_tables",
    "figures": "voxseq.report.figures.run:execute_figures",
}
