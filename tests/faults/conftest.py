"""Fixtures of the tests that break things."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.places import Place, Say, Zygote

_SAID = pytest.StashKey[list[str]]()
_TRIED = pytest.StashKey[Counter[str]]()
_ENDED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """A process that starts others; how they ended is printed at the end."""
    started = Zygote()
    yield started
    started.close()
    ways = ", ".join(f"{count} {way}" for way, count in started.ended.items())
    request.config.stash[_ENDED] = (
        f"processes: {ways}; slowest stop {started.slowest:.1f} s after its signal"
    )


@pytest.fixture(scope="session")
def prepared(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A workspace whose data and sequences are ready."""
    place = Place(tmp_path_factory.mktemp("prepared") / "x", zygote)
    place.folder.mkdir()
    for stage in ("download", "preprocess", "sequences"):
        for job in place.plan.of_stage(stage):  # type: ignore[arg-type]
            place.do(stage, job.name)
    return place


@pytest.fixture(scope="session")
def straight(prepared: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same after all pre-trainings and some fine-tunings, none of them disturbed."""
    place = prepared.copy(tmp_path_factory.mktemp("straight") / "x")
    for job in place.plan.of_stage("pretrain"):
        place.do("pretrain", job.name)
    for network in ("ours", "unet3d", "resnet"):
        place.do("finetune", f"{network}.part0")
    place.do("beyond", "finetune.probes.part0")
    return place


@pytest.fixture(scope="session")
def complete(straight: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The whole study, up to tables and figures."""
    place = straight.copy(tmp_path_factory.mktemp("complete") / "x")
    for stage in ("finetune", "beyond", "scores", "tables", "figures"):
        for job in place.plan.of_stage(stage):  # type: ignore[arg-type]
            place.do(stage, job.name)
    return place


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk; the limit on files is tested all the same")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def scenario(request: pytest.FixtureRequest) -> Say:
    """Say in one line what a test did and found; printed when all tests are done."""
    lines = request.config.stash.setdefault(_SAID, [])

    def say(what: str, **found: object) -> None:
        shown = [f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()]
        lines.append(", ".join([what, *shown]))

    return say


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[None]:
    """Count a malformed input under the name of its test; the number is printed at the end."""
    yield
    counts = request.config.stash.setdefault(_TRIED, Counter())
    counts[request.node.originalname.removeprefix("test_").replace("_", " ")] += 1


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines, counts = config.stash.get(_SAID, []), config.stash.get(_TRIED, Counter())
    if lines or counts or _ENDED in config.stash:
        terminalreporter.section("resume, faults and inputs")
    if _ENDED in config.stash:
        terminalreporter.line(config.stash[_ENDED])
    for line in sorted(lines):
        terminalreporter.line(line)
    for what, count in sorted(counts.items()):
        terminalreporter.line(f"malformed: {what}: {count} tried")
    if counts:
        terminalreporter.line(f"malformed inputs tried: {counts.total()}")
