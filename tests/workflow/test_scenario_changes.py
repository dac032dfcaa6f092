"""Scenarios 3, 4 and 5: the story of one study, told once by each engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.study import COMMANDS, Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

Found = Callable[[int, str], None]
TASK = ("finetune.tasks.task06_lung.steps", 2, 3)
METHOD = ("pretrain.methods.mae3d.mask_ratio", None, 0.5)
#: What follows from each change, and nothing else.
OF_TASK = [*(f"finetune/task06_lung/{m}/s0" for m in ("mae3d", "ours", "unetr")), "tables/all"]
OF_METHOD = ["pretrain/mae3d", *(f"finetune/{t}/mae3d/s0" for t in ("nodule", "task06_lung"))]


class Story:
    """A study that goes from one state to the next; each step is taken once."""

    def __init__(self, study: Study, engine: str) -> None:
        self.study, self.engine = study, engine
        self.began = study.runs(), study.tables()
        self.went = None, None

    def change(self) -> None:
        """Scenario 3."""
        if self.went[0] is not None:
            return
        for (key, _, value), expected in (
            (TASK, [*OF_TASK, "figures/all"]),
            (METHOD, [*OF_METHOD, "tables/all", "figures/all"]),
        ):
            self.study.change(key, value)
            with self.study.computes(expected):
                self.study.run(self.engine)
            self.study.assert_nothing_to_do()
        self.went = self.study.runs(), self.study.tables()
        self.study.commit("changed")


@pytest.fixture(scope="module", params=list(COMMANDS))
def story(
    request: pytest.FixtureRequest, finished: Study, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    study = finished.copy(tmp_path_factory.mktemp(f"story-{request.param}") / "study")
    return Story(study, request.param)


def test_a_change_reaches_exactly_what_follows_from_it(story: Story, found: Found) -> None:
    story.change()
    assert story.went[1] != story.began[1]
    found(
        3,
        f"{story.engine}: one task's steps → {len(OF_TASK) + 1} runs, one method's pre-training → "
        f"{len(OF_METHOD) + 2} runs; the other engine agrees each time",
    )


def test_changed_back_all_is_restored_and_nothing_trained(story: Story, found: Found) -> None:
    story.change()
    for which, state in ((1, story.began), (2, story.went)):
        for change in (TASK, METHOD):
            story.study.change(change[0], change[which])
        with story.study.computes([]):
            story.study.run(story.engine)
        assert (story.study.runs(), story.study.tables()) == state
        story.study.assert_nothing_to_do()
    found(4, f"{story.engine}: back and forth again, 0 runs computed, results restored")


def test_an_older_commit_is_checked_out(story: Story, found: Found) -> None:
    story.change()
    story.study.git("checkout", "--quiet", "--force", "main")
    for commit, state in (("main~1", story.began), ("main", story.went)):
        story.study.git("checkout", "--quiet", commit)
        story.study.dvc("checkout")
        with story.study.computes([]):
            story.study.assert_nothing_to_do()
            story.study.run(story.engine)
        assert (story.study.runs(), story.study.tables()) == state
    found(5, f"{story.engine}: an older commit and forward again, nothing to do in either engine")
