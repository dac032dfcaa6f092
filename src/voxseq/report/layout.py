"""Rows and columns of the tables, and how a study's names map onto them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voxseq.config.studies import AblationVariant
from voxseq.methods import METHODS
from voxseq.report.study import REFERENCE, Study, Task, find_method, same_name, title_of

_SELF_SUPERVISED = ("SimCLR", "MoCo v3", "DINO", "PCRLv2", "MAE3D", "MedCoSS")
OURS = "Ours"
SCRATCH_GROUP = "From scratch"
PRETRAINED_GROUP = "Self-supervised pre-training"
ABLATION_GROUP = "Ablation"
#: Rows of Table 1 (segmentation) and Table 2 (classification); Table 3 uses both.
ROWS: Mapping[str, tuple[str, ...]] = {
    "segmentation": ("UNETR", "3D UNet", *_SELF_SUPERVISED, OURS),
    "classification": ("ResNet", "ViT", *_SELF_SUPERVISED, OURS),
}
_SCRATCH = frozenset({"UNETR", "3D UNet", "ResNet", "ViT"})
#: Data set of a task → column of the paper.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "segmentation": {
        "task03_liver": "Task03",
        "task06_lung": "Task06",
        "task07_pancreas": "Task07",
        "task08_hepaticvessel": "Task08",
        "task09_spleen": "Task09",
        "task10_colon": "Task10",
        "la": "LA",
    },
    "classification": {"ricord": "RICORD", "nodule": "Nodule"},
}
AVERAGE = "Average"
#: Share of the labels in Table 3.
RATIOS = (1.0, 0.5, 0.25, 0.1)
#: Columns of Tables 3 and 4 in the paper.
RATIO_COLUMNS = ("LA", "RICORD")
ABLATION_COLUMNS = ("Task06", "RICORD")
#: Rows of Table 4 besides the full method, in the paper's order.
ABLATION_ROWS: Mapping[str, str] = {
    "no_sequences": "No sequences (single images)",
    "no_random_start": "No random start (causal attention)",
    "without_spatial": "Without spatial sequences",
    "without_contrast": "Without contrast sequences",
    "without_semantic": "Without semantic sequences",
    "shorter_stride": "Shorter stride (paper: 4)",
    "longer_stride": "Longer stride (paper: 12)",
}
_PAPER_STRIDE = 8
_PAPER_STRIDES: Mapping[str, int] = {"shorter_stride": 4, "longer_stride": 12}


@dataclass(frozen=True)
class RowSpec:
    """One row: ``paper_row`` is its name in paper_values.csv, ``method`` is None where not run."""

    title: str
    group: str
    method: str | None
    variant: str = ""
    paper_row: str = ""
    planned: bool = True


def paper_column(task: Task) -> str:
    """The paper's column for a task; empty for a task that the paper does not have."""
    return COLUMNS[task.type].get(task.dataset, "")


def ordered_tasks(study: Study, kind: str) -> tuple[Task, ...]:
    """The study's tasks of one type: the paper's columns in its order, then further ones."""
    order = list(COLUMNS[kind])
    tasks = study.tasks_of(kind)
    return tuple(
        sorted(tasks, key=lambda t: order.index(t.dataset) if t.dataset in order else len(order))
    )


def absent_columns(tasks: tuple[Task, ...], expected: tuple[str, ...]) -> tuple[str, ...]:
    """The paper's columns that none of the tasks stands for."""
    present = {paper_column(task) for task in tasks}
    return tuple(column for column in expected if column not in present)


def method_rows(study: Study, kind: str) -> tuple[RowSpec, ...]:
    """The paper's rows, then methods of the study that the paper lacks, ours last."""
    methods = study.methods_of(kind)
    rows = [
        RowSpec(
            title=row,
            group=SCRATCH_GROUP if row in _SCRATCH else PRETRAINED_GROUP,
            method=find_method(methods, row),
            paper_row=row,
        )
        for row in ROWS[kind]
    ]
    known = {row.method for row in rows}
    further = [
        RowSpec(title=title_of(m), group=_group_of(m), method=m) for m in methods if m not in known
    ]
    scratch = [row for row in (*rows[:-1], *further) if row.group == SCRATCH_GROUP]
    pretrained = [row for row in (*rows[:-1], *further) if row.group == PRETRAINED_GROUP]
    return (*scratch, *pretrained, rows[-1])


def _group_of(method: str) -> str:
    known = METHODS.get(method)
    return SCRATCH_GROUP if known and not known.is_pretrained else PRETRAINED_GROUP


def ablation_rows(study: Study) -> tuple[RowSpec, ...]:
    """The full method, the paper's seven other rows, then further variants of the study."""
    matched = _match_variants(study)
    reference = REFERENCE if REFERENCE in study.methods else None
    stride = study.full_stride
    full = "Full method" if stride is None else f"Full method (stride {stride})"
    rows = [RowSpec(full, "", reference, "", OURS)]
    for key, title in ABLATION_ROWS.items():
        variant = matched.get(key)
        shown = title if variant is None else study.ablation[variant].title
        rows.append(RowSpec(shown, "", reference if variant else None, variant or "", key))
    rows.extend(
        RowSpec(study.ablation[name].title, "", reference, name)
        for name in study.ablation
        if name not in matched.values()
    )
    return tuple(rows)


def _match_variants(study: Study) -> dict[str, str]:
    """Paper's row key → variant of the study, found by what the variant changes."""
    stride = study.full_stride or _PAPER_STRIDE
    matched: dict[str, str] = {}
    for name, variant in study.ablation.items():
        key = _row_key(variant, stride)
        exact = _PAPER_STRIDES.get(key) == variant.stride
        if key and (key not in matched or (exact and key in _PAPER_STRIDES)):
            matched[key] = name
    return matched


def _row_key(variant: AblationVariant, stride: int) -> str:
    changes = {
        "no_sequences": not variant.sequences,
        "no_random_start": variant.attention == "causal",
        f"without_{variant.without}": variant.without is not None,
        "token_order": variant.token_order is not None,
        "shorter_stride": variant.stride is not None and variant.stride < stride,
        "longer_stride": variant.stride is not None and variant.stride > stride,
    }
    made = [key for key, changed in changes.items() if changed]
    # A variant that changes two things is none of the paper's rows.
    return made[0] if len(made) == 1 and made[0] in ABLATION_ROWS else ""


def is_reference(row: RowSpec) -> bool:
    """Whether a row is our full method."""
    return same_name(row.paper_row, OURS)
