"""Verdicts on the paper's claims: what is compared, when something is said, and what of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_study
from tests.helpers.own_study import own
from voxseq.evaluation.statistics import holm
from voxseq.plan.outputs import has_claims, lasting
from voxseq.report.sheet import read_sheets
from voxseq.report.tables.claimed import claims, paper_score
from voxseq.report.tables.claims import claims_frame, claims_sheet
from voxseq.report.tables.differences import compare_rows
from voxseq.report.tables.rows import RowScores
from voxseq.report.tables.sides import Side, Sides, aligned
from voxseq.report.writers import to_markdown

DECATHLON = tuple(name for name in fake_study.demo().tasks if name.startswith("task"))
METHODS = fake_study.demo().methods
CASES = 20


def judged(scores: RowScores) -> dict[tuple[str, int], dict[str, Any]]:
    """Claim and number of its part → row."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in claims_frame(scores).to_dict("records"):
        part = sum(name == row["claim"] for name, _ in found)
        found[row["claim"], part] = row
    return found


def made(seeds: int, **options: Any) -> RowScores:
    """Scores of a part of the demo in which ours is better by six points, without files."""
    study = fake_study.part(seeds=range(seeds), **{"methods": METHODS, **options})
    sides: dict[str, Sides] = {"dice": {}, "auc": {}, "accuracy": {}}
    rows = []
    for run in dict.fromkeys((r.stage, r.task, *r.series, round(r.ratio, 9)) for r in study.runs):
        _, task, method, _, ratio = run
        rng = np.random.default_rng(sum(map(ord, "".join(map(str, run)))))
        lead = 0.06 * (method == "ours") - 0.1 * (1 - ratio)
        for metric in study.tasks[task].metrics:
            hard = np.random.default_rng([len(task), len(metric)]).normal(0, 0.08, (1, CASES, 1))
            noise = rng.normal(0, 0.03, (seeds, CASES, 1)) + rng.normal(0, 0.005, (seeds, 1, 1))
            target = np.arange(CASES) % 2 if metric == "auc" else None
            values = 0.6 + lead + hard + noise
            if target is not None:
                values = 0.5 + (0.2 + lead) * (target[:, None] - 0.5) + hard + 3 * noise
            names = np.array([f"{n:02d}" for n in range(CASES)])
            side = Side(tuple(range(seeds)), names, np.array(["a"]), values, target, CASES)
            sides[metric][run] = side
            rows += [(*run, n, metric, value, CASES) for n, value, _ in side.of_seeds()]
    keys = ["stage", "task", "method", "variant", "ratio", "seed", "metric", "value", "cases"]
    return RowScores(study, sides, pd.DataFrame(rows, columns=keys))


@pytest.fixture(scope="module")
def scores() -> RowScores:
    """All rows and tasks, with five seeds."""
    return made(5)


def moved(scores: RowScores, shifts: Mapping[tuple[str, str], float]) -> RowScores:
    """The scores with some rows' Dice moved; keys are method and variant."""
    sides = {
        key: Side(side.seeds, side.patients, side.labels, side.values + shifts.get(key[2:4], 0.0))
        for key, side in scores.sides["dice"].items()
    }
    return RowScores(scores.study, {**scores.sides, "dice": sides}, scores.means)


def test_the_file_has_the_papers_values_of_nineteen_claims(root: Path) -> None:
    with (root / "src/voxseq/report/tables/claims.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == [f"C{n}" for n in range(1, 20)]
    assert all(line["text"] and line["contrast"] and line["test"] for line in lines)
    assert [claim.id for claim in claims() if claim.is_primary] == ["C1", "C3", "C10", "C16", "C17"]


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.id)
def test_values_of_contrasts_follow_from_the_papers_tables(claim: Any) -> None:
    def of(name: str, column: str, metric: str) -> float:
        return paper_score(claim.table, name, column, metric)

    found = []
    for column in claim.columns:
        ours = [of(name, *column) for name in claim.reference]
        others = [of(name, *column) for name in claim.rows]
        sign = -1 if claim.kind == "gain" else 1
        if claim.kind == "groups":
            found.append([np.mean(ours) - np.mean(others)])
        elif claim.kind == "trend":
            found.append([ours[0] - others[-1]])
        else:
            found.append([sign * (ours[0] - other) for other in others])
    if claim.parts == "row":
        expected = found[0]
    elif claim.parts == "column":
        expected = [min(of_column) for of_column in found]
    elif claim.kind == "interaction":
        # The largest of the leads.
        assert found[0][0] == max(map(min, found))
        expected = found[0]
    else:
        expected = [min(map(min, found))]
    assert claim.paper_values == pytest.approx(expected, abs=5.1e-5)


def test_every_claim_of_a_whole_study_has_an_interval(scores: RowScores) -> None:
    frame = claims_frame(scores)
    assert list(dict.fromkeys(frame["claim"])) == [claim.id for claim in claims()]
    assert len(frame) == 26
    assert set(frame["verdict"]) <= {"supported", "contradicted", "cannot tell"}
    assert (frame["low"] < frame["difference"]).all()
    assert (frame["detectable"] > 0).all()
    assert set(frame["seeds"]) == {5}
    # Ours was made better by six points of Dice in all columns.
    verdicts = dict(zip(frame["claim"], frame["claim_verdict"], strict=True))
    assert {verdicts[name] for name in ("C1", "C2", "C3", "C4", "C5")} == {"supported"}
    assert verdicts["C6"] == verdicts["C7"] == "cannot tell"


def test_single_and_joint_differences_are_those_of_the_tables(scores: RowScores) -> None:
    found, table = judged(scores), compare_rows(scores)
    average = table[(table["table"] == 1) & (table["task"] == "")].set_index("other")
    for name in ("difference", "low", "high"):
        assert found["C3", 0][name] == pytest.approx(average.loc["unetr", name])
    medical = average.loc[["pcrlv2", "mae3d", "medcoss"]]
    assert found["C1", 0]["p_one_sided"] == pytest.approx(medical["p"].max() / 2)
    # Intersection-union: the largest p of 56 tests, uncorrected.
    every = table[(table["table"] == 1) & (table["task"] != "")]
    assert found["C4", 0]["p_one_sided"] == pytest.approx(every["p"].max() / 2)
    worst = every.loc[every["p"].idxmax()]
    assert found["C4", 0]["difference"] == pytest.approx(worst["difference"])
    areas = table[(table["task"] == "ricord") & (table["table"] == 2) & (table["metric"] == "auc")]
    one_sided = np.where(areas["difference"] > 0, areas["p"] / 2, 1 - areas["p"] / 2)
    assert found["C10", 0]["p_one_sided"] == pytest.approx(one_sided.max())
    ablation = table[(table["table"] == 4) & (table["metric"] != "accuracy")]
    one_sided = np.where(ablation["difference"] > 0, ablation["p"] / 2, 1 - ablation["p"] / 2)
    corrected = dict(
        zip(zip(ablation["task"], ablation["variant"], strict=True), holm(one_sided), strict=True)
    )
    assert found["C16", 1]["p_one_sided"] == pytest.approx(corrected["ricord", "no_sequences"])
    strides = [corrected["task06_lung", name] for name in ("stride4", "stride12")]
    assert found["C19", 0]["p_one_sided"] == pytest.approx(max(strides))


def test_contrasts_of_several_rows_by_hand(scores: RowScores) -> None:
    found = judged(scores)

    def dice(task: str, method: str, stage: str = "finetune", ratio: float = 1.0) -> np.ndarray:
        side = scores.sides["dice"][stage, task, method, "", ratio]
        return np.array([np.nanmean(np.nanmean(seed, axis=1)) for seed in side.values])

    medical, general = ("pcrlv2", "mae3d", "medcoss"), ("simclr", "moco_v3", "dino")
    means = [
        np.mean([dice(task, method) for task in DECATHLON for method in methods])
        for methods in (medical, general)
    ]
    assert found["C7", 0]["difference"] == pytest.approx(means[0] - means[1])
    leads = {t: (dice(t, "ours") - dice(t, "mae3d")).mean() for t in DECATHLON}
    gaps = [leads["task10_colon"] - lead for t, lead in leads.items() if t != "task10_colon"]
    assert min(abs(found["C6", 0]["difference"] - gap) for gap in gaps) < 1e-9
    few = dice("la", "ours", "label_ratio", 0.1)
    assert found["C13", 0]["difference"] == pytest.approx((few - dice("la", "unetr")).mean())
    ratios = np.array([1.0, 0.5, 0.25, 0.1])
    stages = ["finetune", *["label_ratio"] * 3]
    curve = [dice("la", "ours", s, r).mean() for s, r in zip(stages, ratios, strict=True)]
    slope = np.polyfit(np.log10(ratios), curve, 1)[0]
    assert found["C15", 0]["difference"] == pytest.approx(slope)


@pytest.mark.parametrize(
    ("ratios", "missing"),
    [((1.0, 0.25, 0.1), None), ((1.0, 0.5, 0.25), "missing: AR (autoregressive) 10%")],
)
def test_the_trend_is_over_the_shares_that_a_study_has(
    scores: RowScores, ratios: tuple[float, ...], missing: str | None
) -> None:
    study = scores.study.model_copy(update={"ratios": ratios})
    found = judged(RowScores(study, scores.sides, scores.means))["C15", 0]
    if missing:
        assert (found["verdict"], found["remark"]) == ("not run", missing)
        return
    sides = [
        scores.sides["dice"]["finetune" if ratio == 1 else "label_ratio", "la", "ours", "", ratio]
        for ratio in ratios
    ]
    slope = np.polyfit(np.log10(ratios), [side.values.mean() for side in sides], 1)[0]
    assert found["difference"] == pytest.approx(slope)


@pytest.mark.parametrize(
    ("lead", "verdict"), [(-0.1, "contradicted"), (0.1, "supported"), (0.0, "cannot tell")]
)
def test_a_verdict_follows_the_interval(lead: float, verdict: str, scores: RowScores) -> None:
    table = compare_rows(scores)
    first = table[(table["task"] == "") & (table["other"] == "unetr")]["difference"].item()
    found = judged(moved(scores, {("ours", ""): lead - first}))["C3", 0]
    assert (found["difference"], found["verdict"]) == (pytest.approx(lead), verdict)
    sides = found["low"] > 0, found["high"] < 0
    assert sides == (verdict == "supported", verdict == "contradicted")


def test_one_better_row_is_enough_against_a_joint_claim(scores: RowScores) -> None:
    found = judged(moved(scores, {("dino", ""): 0.5}))
    verdicts = {name: found[name, 0]["verdict"] for name in ("C1", "C2", "C4", "C5", "C8")}
    assert verdicts == {
        **{"C1": "supported", "C2": "contradicted", "C4": "contradicted", "C5": "contradicted"},
        "C8": "cannot tell",
    }
    assert found["C5", 0]["decided_by"] == "AR (autoregressive) - DINO: Dice, LA"


@pytest.mark.slow
def test_not_worse_is_judged_with_its_margin(scores: RowScores) -> None:
    few = scores.sides["dice"]["label_ratio", "la", "ours", "", 0.1]
    all_labels = scores.sides["dice"]["finetune", "la", "unetr", "", 1.0]
    gap = float(few.values.mean() - all_labels.values.mean())
    for wanted, verdict in ((0.0, "supported"), (-0.02, "cannot tell"), (-0.2, "contradicted")):
        found = judged(moved(scores, {("unetr", ""): gap - wanted}))["C13", 0]
        assert found["difference"] == pytest.approx(wanted)
        assert (found["verdict"], found["margin"]) == (verdict, 0.02)
    sheet = claims_sheet(scores.study, claims_frame(scores))
    assert any(
        note == "C13: the paper's own values do not meet this claim." for note in sheet.notes
    )


@pytest.mark.parametrize(
    ("seeds", "told"), [(1, set()), (3, {"C1", "C3"}), (5, {"C1", "C3", "C5"})]
)
def test_seeds_decide_what_is_said(seeds: int, told: set[str]) -> None:
    scores = made(seeds)
    found = judged(scores)
    assert {name for name in ("C1", "C3", "C5") if found[name, 0]["verdict"] == "supported"} == told
    for name in {"C1", "C3", "C5"} - told:
        row = found[name, 0]
        assert row["verdict"] == "cannot tell"
        assert row["remark"].startswith(f"{seeds} seeds" if seeds > 1 else "one seed")
        assert row["low"] < row["difference"] < row["high"]
    assert math.isnan(found["C3", 0]["detectable"]) == (seeds == 1)
    text = to_markdown(claims_sheet(scores.study, claims_frame(scores)))
    assert ("of this run only" in text) == (seeds == 1)


def test_what_has_not_run_is_named() -> None:
    methods = ("unetr", "unet3d", "mae3d", "ours")
    options = {"methods": methods, "tasks": ("la", "ricord"), "ratios": (), "ablation": ()}
    scores = made(1, **options)
    found = judged(scores)
    assert found["C1", 0]["verdict"] == found["C5", 0]["verdict"] == "not run"
    assert found["C1", 0]["remark"] == "missing: PCRLv2, MedCoSS, column average of six"
    assert "SimCLR" in found["C5", 0]["remark"]
    assert math.isnan(found["C5", 0]["difference"])
    assert {row["verdict"] for row in found.values()} == {"not run"}
    text = to_markdown(claims_sheet(scores.study, claims_frame(scores)))
    assert "19 not run" in text
    assert "nan" not in text


def test_claims_are_files_of_studies_of_the_papers_tasks(tmp_path: Path) -> None:
    context = fake_study.quiet(tmp_path, "la", seeds=(0, 1))
    out = context.make("tables")
    frame = pd.read_csv(out / "tables/claims.csv")
    assert len(frame) == 26
    assert (out / "tables/claims.md").read_text().startswith("## The paper's claims")
    assert read_sheets(out / "tables/tables.json")[0].name == "claims"
    assert not has_claims(own())
    assert not any("claims" in name for name in lasting("tables", own()))
    assert not has_claims(fake_study.part(methods=("unetr", "vit")))


def test_rows_are_aligned_by_names() -> None:
    values = np.arange(6.0).reshape(1, 3, 2)
    one = Side((0,), np.array(["a", "b", "c"]), np.array(["x", "y"]), values)
    other = Side((0, 1), np.array(["b", "c", "d"]), np.array(["y"]), np.ones((2, 3, 1)))
    found = aligned([one, other], [0])
    assert found.values[:, 0, :, 0].tolist() == [[3.0, 5.0], [1.0, 1.0]]
