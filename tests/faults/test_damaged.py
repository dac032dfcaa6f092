"""Damage between two stages, lost workers, no memory, and losses that are no numbers."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.places import Place, Say

#: Inputs of a training: the file and the stage that makes it.
INPUTS = {
    ("pretrain", "ours"): (
        ("preprocess/source/amos22/s0/volumes-000.bin", "preprocess"),
        ("preprocess/source/deeplesion/s0/store.parquet", "preprocess"),
        ("sequences/all/s0/spatial.parquet", "sequences"),
        ("sequences/all/s0/sources.json", "sequences"),
    ),
    ("finetune", "ours.part0"): (
        ("preprocess/task/task06_lung/s0/volumes-000.bin", "preprocess"),
        ("preprocess/task/task06_lung/s0/places.parquet", "preprocess"),
        ("pretrain/ours/s0/encoder.safetensors", "pretrain"),
    ),
    ("tables", "all"): (
        ("finetune/task06_lung/ours/s0/scores.csv", "finetune"),
        ("scores/s0/scores/seed-0.json", "scores"),
    ),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = random.Random(len(content)).randrange(len(content))
    content[place] ^= 4
    path.write_bytes(bytes(content))


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def lead_nowhere(path: Path) -> None:
    """Unreadable for everybody, root included."""
    path.unlink()
    path.symlink_to(path.name)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "one bit flipped": flip,
    "one byte short": shorten,
    "missing": Path.unlink,
    "a folder": replace_by_folder,
    "a link to itself": lead_nowhere,
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("stage", "name"), INPUTS)
def test_damaged_inputs_are_noticed_before_the_work_starts(
    complete: Place, tmp_path: Path, scenario: Say, stage: str, name: str, damage: str
) -> None:
    place = complete.copy(tmp_path / "x")
    for file, made_by in INPUTS[stage, name]:
        place.forget(stage, name)
        path = place.folder / place.plan.artefacts / file
        DAMAGES[damage](path)
        ended = place.run(stage, name)
        ended.refused(str(path), f"which then does the stage {made_by} once more")
        # The stage that made it does it again; what it makes is the same.
        for job in place.plan.of_stage(made_by):  # type: ignore[arg-type]
            if any(file.startswith(f"{run.id}/") for run in job.runs):
                place.do(made_by, job.name)
        place.do(stage, name)
        assert place.results(stage, name) == complete.results(stage, name)
    files = ", ".join(Path(file).name for file, _ in INPUTS[stage, name])
    scenario(f"{stage} {name}: an input is damaged ({damage}): {files}")


@pytest.mark.slow
def test_checksums_on_demand(complete: Place, tmp_path: Path, scenario: Say) -> None:
    place = complete.copy(tmp_path / "x")
    sound = place.command("verify")
    assert sound.status == 0, sound.said
    count = len(place.plan.runs)
    assert f"of {count} compared, 0 damaged" in sound.output
    base = place.folder / place.plan.artefacts
    flip(base / "preprocess/source/amos22/s0/volumes-000.bin")
    flip(base / "pretrain/dino/s0/encoder.safetensors")
    found = place.command("verify")
    found.refused("damaged: preprocess/source/amos22/s0: ", "damaged: pretrain/dino/s0: ")
    found.refused("snakemake --cores all preprocess pretrain")
    place.do("preprocess", "source.amos22")
    place.do("pretrain", "dino")
    again = place.command("verify")
    assert again.status == 0, again.said
    assert place.results("pretrain", "dino") == complete.results("pretrain", "dino")
    scenario("voxseq verify: two flipped bits in a finished study, both found and made good")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), [("pretrain", "ours"), ("finetune", "ours.part0")])
def test_a_lost_worker(
    straight: Place, tmp_path: Path, scenario: Say, stage: str, name: str
) -> None:
    """The system ends processes when memory runs out."""
    place = straight.copy(tmp_path / "x")
    place.forget(stage, name)
    for step in (2, 3):
        ended = place.run(stage, name, workers=2, place="batch", step=step, signal=0, act="lose me")
        ended.refused("a process that prepares batches ended by itself")
        ended.refused("lower the number of workers or give the job more memory")
    place.do(stage, name, workers=2)
    assert place.results(stage, name) == straight.results(stage, name)
    scenario(f"{stage} {name}: a worker was ended by the system, 2 times")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_no_memory_for_a_batch(
    straight: Place, tmp_path: Path, scenario: Say, workers: int
) -> None:
    place = straight.copy(tmp_path / "x")
    place.forget("pretrain", "ours")
    ended = place.run(
        "pretrain", "ours", workers=workers, place="batch", step=4, signal=0, act="no memory"
    )
    ended.refused("error: out of memory")
    again = place.do("pretrain", "ours", workers=workers)
    assert "resuming at step" in again.output
    assert place.results("pretrain", "ours") == straight.results("pretrain", "ours")
    scenario(f"pretrain ours, {workers} workers: no memory for a batch")


@pytest.mark.slow
def test_a_loss_that_is_no_number(straight: Place, tmp_path: Path, scenario: Say) -> None:
    optimiser = {"lr": 1e30, "warmup_steps": 4, "clip_norm": None}
    methods = {"ours": {"optimiser": optimiser}}
    place = straight.copy(tmp_path / "x", pretrain={"methods": methods, "checkpoint_every": 1})
    ended = place.run("pretrain", "ours")
    path = place.checkpoint("pretrain", "ours")
    assert path.exists()
    ended.refused("at step 2, items [", f"last good checkpoint: {path}")
    # It says the same when it is started again, from that checkpoint.
    place.run("pretrain", "ours").refused("resuming at step")
    scenario("pretrain ours: a loss that is no number; step, items and checkpoint are named")


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_and_a_damaged_one(
    straight: Place, tmp_path: Path, scenario: Say
) -> None:
    place = straight.copy(tmp_path / "x")
    place.forget("pretrain", "ours")
    place.run("pretrain", "ours", place="step", step=4, signal=signal.SIGTERM)
    kept = place.checkpoint("pretrain", "ours")
    content = kept.read_bytes()
    other = straight.copy(tmp_path / "y", pretrain={"seed": 77})
    run = other.job("pretrain", "ours").runs[0]
    state = other.folder / ".voxseq/state" / other.plan.scale / run.id / run.fingerprint
    state.mkdir(parents=True)
    shutil.copy(kept, state)
    ended = other.run("pretrain", "ours")
    ended.refused("belongs to another configuration (", "(seed: ", " there, 77 now")
    for damage in (flip, shorten):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
        damage(kept)
        ended = place.run("pretrain", "ours")
        if ended.status == 0:
            # The bit did not matter; the results say so.
            assert place.results("pretrain", "ours") == straight.results("pretrain", "ours")
            place.forget("pretrain", "ours")
            continue
        ended.refused(f"delete {kept} to start this run from step 0")
    scenario("pretrain ours: checkpoints of another seed, flipped and short: refused by name")
