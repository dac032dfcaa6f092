"""The short form of the tests that kill, fill and damage: one of each, at every submission."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.test_damaged import flip
from tests.faults.test_full_disk import MESSAGE
from tests.faults.test_kills import PATIENCE
from tests.helpers.places import RETRY, Ended, Place
from tests.helpers.zygote import fill


def test_killed_stopped_out_of_room_and_damaged_once_each(
    prepared: Place, small_disk: Path, tmp_path: Path, scenario: Callable[..., None]
) -> None:
    straight = prepared.copy(tmp_path / "straight")
    straight.do("pretrain", "medcoss")
    place = prepared.copy(small_disk / "x")

    def disturbed(**request: Any) -> Ended:
        return place.run("pretrain", "medcoss", **request)

    path = place.folder / place.plan.artefacts / "preprocess/source/amos22/images/000000.b2nd"
    sound = path.read_bytes()
    flip(path)
    damaged = disturbed()
    assert damaged.status == 2, damaged.said
    assert f"{path} does not have its recorded checksum" in damaged.output
    assert place.do("preprocess", "source.amos22").status == 0
    assert path.read_bytes() == sound

    killed = disturbed(workers=2, place="step", step=4, signal=signal.SIGKILL)
    assert killed.status == -signal.SIGKILL, killed.said
    stopped = disturbed(place="validation", step=0, signal=signal.SIGTERM)
    assert stopped.status == RETRY, stopped.said
    assert stopped.stopping is not None
    assert stopped.stopping < PATIENCE

    filler = small_disk / "filler"
    fill(filler)
    full = disturbed()
    assert full.status == 2, full.said
    assert MESSAGE.search(full.output)
    filler.unlink()

    assert disturbed(workers=2).status == 0
    assert place.results("pretrain", "medcoss") == straight.results("pretrain", "medcoss")
    assert place.leftovers() == []
    scenario("pretrain medcoss: a flipped bit, SIGKILL, SIGTERM and a full disk, one after another")
