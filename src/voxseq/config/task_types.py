"""The types of task, apart from the methods, which trainings on tasks need not know."""

from __future__ import annotations

from typing import Literal

TaskType = Literal["segmentation", "classification", "regression"]
#: Types of task with one answer per image; a frozen encoder is scored on them by a linear probe.
PROBED: frozenset[TaskType] = frozenset({"classification", "regression"})
