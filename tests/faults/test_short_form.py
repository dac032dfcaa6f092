"""The short form of the tests that kill, fill and damage: one of each, at every submission."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.faults.test_damaged import flip
from tests.faults.test_full_disk import MESSAGE
from tests.helpers.places import Ended, Place, Say
from tests.helpers.zygote import fill


def test_killed_stopped_out_of_room_and_damaged_once_each(
    prepared: Place, small_disk: Path, tmp_path: Path, scenario: Say
) -> None:
    straight = prepared.copy(tmp_path / "straight")
    straight.do("pretrain", "medcoss")
    place = prepared.copy(small_disk / "x")

    def disturbed(**request: Any) -> Ended:
        return place.run("pretrain", "medcoss", **request)

    path = place.folder / place.plan.artefacts / "preprocess/source/amos22/s0/volumes-000.bin"
    sound = path.read_bytes()
    flip(path)
    disturbed().refused(f"{path} does not have its recorded checksum")
    assert place.do("preprocess", "source.amos22").status == 0
    assert path.read_bytes() == sound

    killed = disturbed(workers=2, place="step", step=4, signal=signal.SIGKILL)
    killed.stopped(signal.SIGKILL)
    disturbed(place="validation", step=0, signal=signal.SIGTERM).stopped(signal.SIGTERM)

    filler = small_disk / "filler"
    fill(filler)
    full = disturbed()
    full.refused()
    assert MESSAGE.search(full.output)
    filler.unlink()

    assert disturbed(workers=2).status == 0
    assert place.results("pretrain", "medcoss") == straight.results("pretrain", "medcoss")
    assert place.leftovers() == []
    scenario("pretrain medcoss: a flipped bit, SIGKILL, SIGTERM and a full disk, one after another")
