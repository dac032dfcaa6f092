"""The tables of an estimate, as cells of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from voxseq.base.devices import CONVOLUTIONS, DEVICES, KINDS, PRODUCTS, USABLE
from voxseq.base.words import several
from voxseq.config import Config
from voxseq.config.amounts import content, sequence_counts
from voxseq.config.execution import Resources
from voxseq.estimate.estimate import Estimate, Totals, wall_hours
from voxseq.estimate.needs import Needs, divisors
from voxseq.estimate.preparation import chores
from voxseq.estimate.run_cost import Packing
from voxseq.plan import STAGES, Run

#: Numbers of GPUs for which the days are told.
GPUS = (1, 8, 64, 512)
_UNITS = ("B", "kB", "MB", "GB", "TB")
_NONE = "–"


@dataclass(frozen=True)
class Section:
    """One table: its name in the page, a title, and cells as they are printed."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(config: Config, estimate: Estimate, stage: str | None = None) -> list[Section]:
    """Everything that is told, table by table; ``stage`` leaves one row of the first."""
    stages = [s for s in STAGES if stage in (None, s) and estimate.plan.of_stage(s)]
    rows = [_totals_row(name, estimate.totals(name)) for name in stages]
    if stage is None:
        rows.append(_totals_row("total", estimate.totals()))
    first = Section(
        "stages",
        f"expected for scale {estimate.plan.scale}",
        ("stage", "jobs", "runs", "EFLOP", "GPU hours", "downloaded", "written"),
        tuple(rows),
    )
    if stage is not None:
        return [first]
    return [
        first,
        _pretrainings(config, estimate),
        _memory(config, estimate),
        _reading(config, estimate),
        _finetunings(estimate),
        _chores(config, estimate),
        _days(estimate),
        _resources(config),
        _rates(estimate),
        _assumptions(config, estimate),
    ]


def misfits(config: Config, estimate: Estimate) -> Iterator[str]:
    """Say of each pre-training that does not fit what it needs, and which key to change."""
    usable = _bytes(estimate.assumptions.usable)
    for run in _of_a_seed(estimate):
        need = estimate.needs[run.id]
        if _fits(config, estimate, need) == "no":
            keys = " or ".join(f"execution.pretrain.{key}" for key in need.remedies)
            yield (
                f"{run.id} needs {_bytes(need.device)} of a device, of whose memory it can use "
                f"{usable} ({estimate.assumptions.device.name}): set {keys or 'a smaller batch'}"
            )
        allowed = 1e6 * config.execution.pretrain.mem_mb
        if need.host > allowed:
            yield (
                f"{run.id} needs {_bytes(need.host)} of memory on each machine, and "
                f"execution.pretrain.mem_mb asks for {_bytes(allowed)}: raise it or lower workers"
            )


def _totals_row(name: str, row: Totals) -> tuple[str, ...]:
    numbers = (_number(row.exaflop), _number(row.gpu_hours))
    sizes = (_bytes(row.downloaded), _bytes(row.written))
    return (name, f"{row.jobs:,}", f"{row.runs:,}", *numbers, *sizes)


def _pretrainings(config: Config, estimate: Estimate) -> Section:
    processes = config.execution.pretrain.processes
    rows = []
    for run in _of_a_seed(estimate):
        cost, hours = estimate.costs[run.id], estimate.hours(run)
        rows.append(
            (
                f"{run.id} *" if cost.is_plain else run.id,
                _number(cost.operations / cost.items / 1e9),
                _number(hours),
                _number(estimate.assumptions.scoring_hours(cost)),
                _number(_rate(config, estimate, run)),
                _bytes(cost.checkpoint),
            )
        )
    return Section(
        "pretrain",
        f"pre-trainings of a seed, each in {several(processes, 'process')}; a checkpoint is there "
        "while one is under way",
        ("run", "GFLOP/item", "GPU hours", "validation", "items/s", "checkpoint"),
        tuple(rows),
    )


def _rate(config: Config, estimate: Estimate, run: Run) -> float:
    """Items per second of all processes of a pre-training."""
    hours = estimate.hours(run) / config.execution.pretrain.processes
    return estimate.costs[run.id].items / (3600 * hours)


def _of_a_seed(estimate: Estimate) -> list[Run]:
    """The pre-trainings of the first seed; those of the others need the same."""
    return [run for run in estimate.runs("pretrain") if run.config.seed == 0]


def _methods(estimate: Estimate) -> list[Run]:
    """The pre-trainings of the methods; variants of them need the same."""
    return [run for run in _of_a_seed(estimate) if run.stage == "pretrain"]


def _memory(config: Config, estimate: Estimate) -> Section:
    asked = config.execution.pretrain
    rows = []
    for run in _methods(estimate):
        need = estimate.needs[run.id]
        counted = (need.step.weights, need.step.training, need.step.validation, need.device)
        sizes = [_bytes(size) if need.step.is_counted else _NONE for size in counted]
        fits = _fits(config, estimate, need)
        memory = (_bytes(need.shared), _bytes(need.host))
        rows.append((run.config.method, f"{need.rows}", *sizes, fits, *memory))
    return Section(
        "memory",
        f"memory of a pre-training in {several(asked.processes, 'process')} on "
        f"{several(asked.nodes, 'machine')}, and whether it fits "
        f"{estimate.assumptions.device.name}",
        (
            *("method", "items", "weights", "training", "validation", "device", "fits"),
            *("shared", "host"),
        ),
        tuple(rows),
    )


def _fits(config: Config, estimate: Estimate, need: Needs) -> str:
    if not config.execution.pretrain.gpu or not need.step.is_counted:
        return _NONE
    return "yes" if need.device <= estimate.assumptions.usable else "no"


def _reading(config: Config, estimate: Estimate) -> Section:
    asked = config.execution.pretrain
    workers = max(asked.workers, 1) * asked.processes
    rows = []
    for run in _methods(estimate):
        own, rate = estimate.needs[run.id].reading, _rate(config, estimate, run)
        rows.append(
            (
                run.config.method,
                _number(rate),
                _number(workers / own.core_seconds),
                _bytes(own.stored),
                _number(own.touched / own.voxels),
                _bytes(own.stored * rate),
                _bytes(own.handed_over),
                _bytes(own.handed_over * rate),
                _bytes(own.row),
            )
        )
    return Section(
        "reading",
        f"reading of a pre-training by {several(workers, 'worker')}",
        (
            *("method", "items/s", "workers/s", "read", "touched", "read/s", "handed over"),
            *("per second", "row"),
        ),
        tuple(rows),
    )


def _finetunings(estimate: Estimate) -> Section:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in estimate.runs("finetune"):
        groups.setdefault((run.config.task, run.config.network), []).append(run)
    rows = []
    for (task, network), runs in groups.items():
        # That of a run whose whole network is trained.
        longest = max(runs, key=estimate.hours)
        scoring = estimate.assumptions.scoring_hours(estimate.costs[longest.id])
        rows.append(
            (
                f"{task}, {network}",
                f"{len(runs)}",
                f"{longest.config.recipe.steps:,}",
                longest.config.precision,
                _number(estimate.hours(longest)),
                _number(scoring),
            )
        )
    return Section(
        "finetune",
        "fine-tuning, of all stages",
        ("task and network", "runs", "steps", "precision", "GPU hours per run", "of it scoring"),
        tuple(rows),
    )


def _chores(config: Config, estimate: Estimate) -> Section:
    rows = [
        (
            chore.name,
            _number(chore.core_hours),
            f"{chore.cores}",
            _number(chore.hours),
            _number(chore.gpu_hours) if chore.gpu_hours else _NONE,
        )
        for chore in chores(config, estimate)
    ]
    return Section(
        "chores",
        "work besides the steps",
        ("work", "core hours", "cores", "hours", "GPU hours"),
        tuple(rows),
    )


def _days(estimate: Estimate) -> Section:
    spent, hours = estimate.totals().gpu_hours, estimate.job_hours()
    rows = []
    for gpus in GPUS:
        wall = wall_hours(estimate.plan, hours, gpus)
        use = spent / (gpus * wall) if wall else 0.0
        even = spent / gpus / 24
        rows.append((f"{gpus}", _number(wall / 24), f"{100 * use:.0f} %", _number(even)))
    return Section(
        "days",
        "days until all is done, a GPU for each job; time for data, reading and waiting left out",
        ("GPUs", "days", "GPUs busy", "days if all work were divided evenly"),
        tuple(rows),
    )


def _resources(config: Config) -> Section:
    rows = []
    for kind, asked in config.execution:
        if not isinstance(asked, Resources):
            continue
        memory = _bytes(1e6 * asked.mem_mb)
        numbers = (f"{n}" for n in (asked.gpu, asked.threads, asked.workers))
        rows.append((kind, *numbers, memory, f"{asked.runtime / 60:g} h"))
    return Section(
        "resources",
        "what one job asks for (execution)",
        ("kind", "GPUs", "threads", "workers", "memory", "time limit"),
        tuple(rows),
    )


def _rates(estimate: Estimate) -> Section:
    used = estimate.assumptions
    rows = []
    for kind in KINDS:
        peaks = (f"{device.peaks[kind]:g}" for device in DEVICES.values())
        rows.append(
            (
                f"products, {kind}",
                *peaks,
                *_sustained(used.given, PRODUCTS[kind], used.products(kind)),
            )
        )
        rows.append(
            (
                f"convolutions, {kind}",
                *("same" for _ in DEVICES),
                *_sustained(used.given, CONVOLUTIONS[kind], used.convolutions(kind)),
            )
        )
    rows.append(
        (
            "memory",
            *(_bytes(device.memory) for device in DEVICES.values()),
            f"{100 * USABLE:.0f} %",
            _bytes(used.usable),
        )
    )
    bandwidths = (f"{_bytes(device.bandwidth)}/s" for device in DEVICES.values())
    rows.append(("memory bandwidth", *bandwidths, _NONE, _NONE))
    title = f"rates in TFLOP/s; taken is {used.device.name}"
    if used.given is not None:
        title += f" at a given rate of {used.given:g}"
    header = ("of", *(device.name for device in DEVICES.values()), "share reached", "taken")
    return Section("rates", title, header, tuple(rows))


def _sustained(given: float | None, share: float, rate: float) -> tuple[str, str]:
    return ("given" if given is not None else f"{100 * share:.0f} %", _number(rate))


def _assumptions(config: Config, estimate: Estimate) -> Section:
    used, batch = estimate.assumptions, config.pretrain.batch_size
    rows = [
        ("GPU", f"{used.device.name}; {used.device.source}"),
        ("bytes of a stored voxel", _packing(used.packing)),
        ("crop to the foreground", f"leaves {used.packing.foreground:g} of each side in the plane"),
        *((f"{kind} sequences", f"{n:,}") for kind, n in sequence_counts(config).items()),
        (f"processes that {batch} items divide over", ", ".join(map(str, divisors(batch)))),
        ("assumed, not in the catalogue", _assumed(config, estimate)),
    ]
    if any(cost.is_plain for cost in estimate.costs.values()):
        counted = "one pass of the encoder over a whole volume, heads left out"
        rows.append(("* a method that cannot be counted", counted))
    return Section("assumptions", "what this rests on", ("assumption", "value"), tuple(rows))


def _packing(packing: Packing) -> str:
    names = [f.name for f in fields(packing) if f.name != "foreground"]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(packing, name):g}" for name in names)


def _assumed(config: Config, estimate: Estimate) -> str:
    parts: dict[str, list[str]] = {}
    for dataset in sorted({run.config.dataset for run in estimate.runs("download")}):
        for name in () if config.data.is_phantom(dataset) else content(dataset, config).assumed:
            parts.setdefault(name, []).append(dataset)
    named = [f"{name} of {', '.join(sets)}" for name, sets in parts.items()]
    return "; ".join(["shapes of images", *named])


def _number(value: float) -> str:
    """Three digits, whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError
