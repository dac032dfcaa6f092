"""Files of seeds: what they hold, which belong together, and tables made of them alone."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import fake_study
from tests.helpers.fake_study import Context
from tests.helpers.own_study import own
from voxseq.base.errors import IntegrityError
from voxseq.base.files import sha256
from voxseq.plan.outputs import seed_file
from voxseq.report.predictions import read_predictions
from voxseq.report.reading import KEYS, SCORE_COLUMNS
from voxseq.report.results import collect, sizes_of
from voxseq.report.seeds.agree import of_files, seeds_of, with_further
from voxseq.report.seeds.compare import committed, unlike
from voxseq.report.seeds.model import SeedScores, read_seed, write_seed
from voxseq.report.tables.run import write_tables

TASKS = ("task07_pancreas", "ricord")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """Three seeds of a small study, whose files all bear its word."""
    study = fake_study.part(tasks=TASKS, ratios=("ricord",), ablation=(), study="abc")
    return fake_study.build(tmp_path_factory.mktemp("three"), study, steps=40)


def files_of(context: Context) -> list[Path]:
    return [context.inputs[f"scores/s{s}"] / seed_file(s) for s in context.config.seeds]


def test_a_file_is_read_back_and_is_the_same_bytes_each_time(
    context: Context, tmp_path: Path
) -> None:
    for path in files_of(context):
        write_seed(tmp_path / "again.json", read_seed(path))
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
        content = json.loads(path.read_text())
        lines = path.read_text().splitlines()
        assert sum('"fingerprint"' in line for line in lines) == len(content["runs"]) + len(
            content["pretrainings"]
        )
        assert not {"seconds", "date", "host"} & set(content)


def test_what_a_run_wrote_comes_back_as_rows(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, *TASKS, methods=("ours",), seeds=(0,))
    run = "finetune/task07_pancreas/ours/s0"
    text = "subject,case,label,metric,value\nx,a,organ,dice,0.123456789\nx,b,organ,dice,nan\n"
    (context.inputs[run] / "scores.csv").write_text(text)
    text = "subject,case,target,probability\np,c,1,0.25\np,d,0,0.5\n"
    (context.inputs["finetune/ricord/ours/s0"] / "predictions.csv").write_text(text)
    context.gather()
    frame = collect(context.config, context.inputs)
    assert list(frame) == [*KEYS, *SCORE_COLUMNS]
    rows = frame[frame["run"] == run]
    assert rows[["subject", "case", "label", "metric"]].to_numpy().tolist() == [
        ["x", "a", "organ", "dice"],
        ["x", "b", "organ", "dice"],
    ]
    assert rows["value"].iloc[0] == 0.123457
    assert math.isnan(rows["value"].iloc[1])
    whole = frame[frame["run"] == "finetune/ricord/ours/s0"]
    assert set(whole["case"]) == set(whole["subject"]) == {""}
    predicted = read_predictions(context.config, context.config.tasks["ricord"], context.inputs)
    columns = ["subject", "case", "target", "class_1"]
    assert predicted[columns].to_numpy().tolist() == [["p", "c", 1.0, 0.25], ["p", "d", 0.0, 0.5]]
    assert sizes_of(context.config, context.inputs)[run]["n_train"] == 28


def test_cases_that_a_run_lacks_are_no_rows(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", methods=("unetr", "ours"), seeds=(0,))
    path = context.inputs["finetune/la/ours/s0"] / "scores.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    context.gather()
    frame = collect(context.config, context.inputs)
    counts = frame.groupby("method")["case"].nunique().to_dict()
    assert counts == {"ours": 3, "unetr": fake_study.CASES}


def changed(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps(content))

    return change


def with_one_number_less(path: Path) -> None:
    content = json.loads(path.read_text())
    run = next(run for run in content["runs"] if run.get("scores"))
    (by_label,) = run["scores"].values()
    by_label[next(iter(by_label))].pop()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (changed(), ""),
        (changed(scale="other"), "it is of scale other, not of demo"),
        (changed(study="def"), "another configuration"),
        (changed(seed=4), "it holds seed 4"),
        (changed(seed="x"), "seed: Input should be a valid integer"),
        (changed(format=2), "format"),
        (with_one_number_less, "11 numbers of 12 cases"),
        (lambda path: path.write_text(path.read_text()[:-40]), "is not a seed's scores"),
        (lambda path: path.unlink(), "cannot be read"),
    ],
)
def test_a_further_seed_is_used_if_it_agrees_and_named_if_not(
    context: Context, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "seed-2.json"
    shutil.copy(files_of(context)[2], path)
    damage(path)
    study = context.config.model_copy(
        update={"seeds": (0,), "further": {str(path): sha256(path) if path.exists() else ""}}
    )
    found = seeds_of(study, context.inputs)
    assert [scores.seed for scores in found.scores] == ([0] if reason else [0, 2])
    assert [reason in line for line in found.left_out] == ([True] if reason else [])
    assert with_further(study, found).seeds == ((0,) if reason else (0, 2))


def test_a_planned_seed_that_is_damaged_stops_the_tables(context: Context, tmp_path: Path) -> None:
    path = tmp_path / seed_file(0)
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(IntegrityError, match=r"seed-0\.json is not a seed's scores"):
        seeds_of(context.config, {"scores/s0": tmp_path})


def tables_of(folder: Path) -> dict[str, bytes]:
    paths = [*(folder / "tables").iterdir(), folder / "metrics.json"]
    return {path.name: path.read_bytes() for path in paths}


def test_tables_are_a_function_of_the_files_of_the_seeds_alone(
    context: Context, tmp_path: Path
) -> None:
    expected = tables_of(context.make("tables"))
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in files_of(context):
        shutil.copy(path, moved)
    study = of_files(context.config, sorted(moved.iterdir()))
    study = with_further(study, seeds_of(study, {}))
    write_tables(study, {}, tmp_path / "out")
    assert tables_of(tmp_path / "out") == expected
    # The same with one seed of this workspace and two of elsewhere.
    files = {str(path): sha256(path) for path in sorted(moved.iterdir())[1:]}
    first = tuple(run for run in context.config.runs if run.seed == 0)
    trained = tuple(run for run in context.config.pretrain_runs if run.seed == 0)
    one = {"seeds": (0,), "runs": first, "pretrain_runs": trained, "further": files}
    inputs = {name: p for name, p in context.inputs.items() if not name.startswith("scores/")}
    inputs["scores/s0"] = context.inputs["scores/s0"]
    mixed = Context(context.config.model_copy(update=one), tmp_path / "mixed", inputs)
    assert tables_of(mixed.make("tables")) == expected


def test_files_of_another_configuration_agree_with_each_other(context: Context) -> None:
    other = context.config.model_copy(update={"study": "newer"})
    study = of_files(other, files_of(context))
    assert (study.study, study.seeds) == ("abc", ())
    assert len(seeds_of(study, {}).scores) == 3


def with_changed_run(scores: SeedScores, place: int, **changes: Any) -> SeedScores:
    runs = list(scores.runs)
    runs[place] = runs[place].model_copy(update=changes)
    return scores.model_copy(update={"runs": tuple(runs)})


def test_seeds_are_compared_run_by_run(context: Context) -> None:
    scores = read_seed(files_of(context)[0])
    assert list(unlike(scores, scores)) == []
    place = next(n for n, run in enumerate(scores.runs) if run.whole)
    run = scores.runs[place]
    label, metric, value = run.whole[0]
    assert value is not None
    other = with_changed_run(scores, place, whole=((label, metric, value + 0.25), *run.whole[1:]))
    (found,) = unlike(other, scores)
    assert found.run == run.id
    assert "the largest difference is 0.25" in found.reason
    (found,) = unlike(with_changed_run(scores, place, fingerprint="1" * 16), scores)
    assert "another configuration" in found.reason
    fewer = scores.model_copy(update={"runs": scores.runs[1:]})
    (found,) = unlike(scores, fewer)
    assert (found.run, "not in the committed" in found.reason) == (scores.runs[0].id, True)
    # A run that is not finished here is no difference.
    assert list(unlike(fewer, scores)) == []


def test_the_committed_file_counts_not_that_of_the_folder(context: Context, tmp_path: Path) -> None:
    path = Path("results") / seed_file(0)
    (tmp_path / path).parent.mkdir(parents=True)
    shutil.copy(files_of(context)[0], tmp_path / path)
    scores = read_seed(tmp_path / path)
    assert committed(tmp_path, path) == scores

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "empty")
    assert committed(tmp_path, path) is None
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    (tmp_path / path).write_text("edited")
    assert committed(tmp_path, path) == scores


def test_own_studies_have_predictions_of_every_kind(tmp_path: Path) -> None:
    study = own(("organs", "grade", "sick", "age"), ("vit", "unetr"), seeds=(0,))
    context = fake_study.build(tmp_path, study, steps=20)
    scores = read_seed(context.inputs["scores/s0"] / seed_file(0))
    columns = {run.task: [*run.predicted] for run in scores.runs}
    grades = [f"probability_{label}" for label in study.tasks["grade"].labels]
    assert columns == {"organs": [], "grade": grades, "sick": ["probability"], "age": ["value"]}
    assert all(task.targets for name, task in scores.tasks.items() if name != "organs")
