"""The parts of the check, in the order of what they are worth."""

from __future__ import annotations

from benchmarks.gpu import (
    attention,
    checkpoints,
    feeding,
    finetuning,
    machine,
    numerics,
    resume,
    steps,
    workers,
)
from benchmarks.gpu.runner import Part

PARTS = (
    Part("machine", 15, "machine, copies and products", machine.measure),
    Part("numerics", 55, "the same numbers as on the CPU", numerics.measure),
    Part("workers", 25, "worker processes beside the device", workers.measure),
    Part("resume", 45, "stopped and resumed, and twice the same", resume.measure),
    Part("steps", 120, "steps with their data on the device", steps.measure),
    Part("attention", 60, "ways of attention, plain and compiled", attention.measure),
    Part("feeding", 60, "the data path, alone and with the step", feeding.measure),
    Part("finetuning", 70, "fine-tuning and whole volumes", finetuning.measure),
    Part("checkpoint", 15, "checkpoints", checkpoints.measure),
)
