"""Shapes that a study may have: name → what is laid over the tiny study."""

from __future__ import annotations

from typing import Any

from tests.helpers.spoilt import task

_NO_STUDIES: dict[str, Any] = {
    "ablation!": {"tasks": [], "variants": {}},
    "label_ratio": {"tasks": [], "methods": None},
}
_NO_TASKS = {**_NO_STUDIES, "finetune": {"tasks!": {}}}
_NO_PRETRAINING: dict[str, Any] = {
    "pretrain": {"methods!": {}},
    "ablation!": {"tasks": [], "variants": {}},
}
# As in the tiny study, so that what it has done is found again.
_LUNG = task("task06_lung", "cancer", window=[-1000, 1000])
_NODULE = task("nodule", "benign", "malignant", scale=255, normalise="none")
_SEGMENTATION = {"task06_lung": {**_LUNG, "title": "Task06 Lung", "steps": 2}}
_CLASSIFICATION = {"nodule": {**_NODULE, "title": "LIDC nodule", "steps": 2}}
_OURS = {"ours": {"attention": "prefix"}}
_DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2}
_MAE3D = {"mae3d": {"crop_shape": [8, 8, 8], **_DECODER}}
_ONE_TASK: dict[str, Any] = {"finetune": {"tasks!": _CLASSIFICATION}}

FLAVOURS: dict[str, dict[str, Any]] = {
    "segmentation only": {**_NO_STUDIES, "finetune": {"tasks!": _SEGMENTATION}},
    "segmentation, ablation and fewer labels": {
        "finetune": {"tasks!": _SEGMENTATION},
        "ablation": {"tasks": ["task06_lung"]},
        "label_ratio": {"tasks": ["task06_lung"], "methods": None},
    },
    "classification only": {**_NO_STUDIES, "finetune": {"tasks!": _CLASSIFICATION}},
    "one method": {
        **_NO_STUDIES,
        "pretrain": {"methods!": _OURS},
        "finetune": {"tasks!": _SEGMENTATION, "scratch": []},
    },
    "one method that is not ours": {
        **_NO_STUDIES,
        "pretrain": {"methods!": _MAE3D},
        "finetune": {"tasks!": _CLASSIFICATION, "scratch": []},
    },
    "pre-training only": {**_NO_TASKS, "pretrain": {"methods!": _OURS}},
    "pre-training and nothing from scratch": {
        **_NO_TASKS,
        "finetune": {"tasks!": {}, "scratch": []},
    },
    "scratch only": {
        **_NO_PRETRAINING,
        "label_ratio": {"methods": ["unetr"], "tasks": ["task06_lung"]},
    },
    "scratch only, no sources": {
        **_NO_STUDIES,
        "pretrain": {"methods!": {}},
        "sequences": {"sources!": []},
        "finetune": {"tasks!": _CLASSIFICATION, "scratch": ["resnet"]},
    },
    "several seeds": {**_NO_STUDIES, "seeds": 2, "finetune": {"tasks!": _CLASSIFICATION}},
    "two test cases": {
        "data": {"phantoms": {"segmentation_cases": 5, "classification_cases": [4, 2, 2]}}
    },
    "nothing but an ablation": {"label_ratio": {"tasks": []}, **_ONE_TASK},
    "nothing but fewer labels": {"ablation!": {"tasks": [], "variants": {}}, **_ONE_TASK},
    "all labels as the only ratio": {
        **_NO_STUDIES,
        **_ONE_TASK,
        "label_ratio": {"ratios": [1.0], "tasks": ["nodule"]},
    },
    "variants without a task": {"ablation": {"tasks": []}, **_ONE_TASK},
    "beyond the paper": {
        **_NO_STUDIES,
        **_ONE_TASK,
        "beyond": {part: ["nodule"] for part in ("token_order", "recipes", "frozen", "trivial")},
    },
    "trivial baselines only": {
        **_NO_STUDIES,
        **_NO_PRETRAINING,
        "finetune": {"tasks!": _CLASSIFICATION, "scratch": []},
        "beyond": {"trivial": ["nodule"]},
    },
    "contrasts only": {
        **_NO_STUDIES,
        **_ONE_TASK,
        "data": {"phantoms": {"contrast_subjects": 3}},
        "sequences": {"sources!": [{"dataset": "brats23", "kind": "contrast"}]},
        "pretrain": {"methods!": _OURS},
    },
    "lesions only": {
        **_NO_TASKS,
        "sequences": {"sources!": [{"dataset": "deeplesion", "kind": "semantic"}]},
        "pretrain": {"methods!": _OURS},
    },
}
