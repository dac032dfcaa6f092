"""The network that a fine-tuning keeps is the one that it selected."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.helpers.finetune_store import (
    KEPT,
    TASKS,
    context,
    finish,
    make_stores,
    pretrained,
    table,
)
from voxseq.base.files import read_json
from voxseq.data.task_volumes import Volumes
from voxseq.finetune import run
from voxseq.models.bundle import CARD_FILE, WEIGHTS_FILE, load_model

finished = partial(finish, run.execute)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))


@pytest.mark.parametrize("kind", TASKS)
def test_kept_network_gives_the_scores_of_the_run(
    kind: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    pretrained(tmp_path / "pre", 77)
    given = context(tmp_path, stores[kind], TASKS[kind], pretrained="pretrain/ours", kept=KEPT)
    run.execute(given)
    network, card = load_model(given.out)
    summary = read_json(given.out / "summary.json")
    assert card.validation.value == summary["validation_score"]
    assert card.validation.step == summary["selected_step"]
    assert card.recipe == given.config.recipe
    assert card.pretraining == {}
    assert (card.task, card.dataset, card.run) == ("Toy", "la", given.run_id)
    volumes = Volumes(stores[kind])
    rows = volumes.rows("val")
    trained = run._trainable(network, card.recipe, volumes, rows)
    found = trained.eval().validate()[card.validation.score]
    assert found == pytest.approx(summary["validation_score"], abs=1e-6)


def test_a_run_without_facts_keeps_no_network(stores: dict[str, Path], tmp_path: Path) -> None:
    out = finished(tmp_path / "a", stores["classification"], TASKS["classification"])
    kept = finished(tmp_path / "b", stores["classification"], TASKS["classification"], kept=KEPT)
    assert {p.name for p in kept.iterdir()} - {p.name for p in out.iterdir()} == {
        CARD_FILE,
        WEIGHTS_FILE,
    }
    # Keeping it changes no result.
    assert table(out / "scores.csv") == table(kept / "scores.csv")
    assert table(out / "metrics.csv") == table(kept / "metrics.csv")
