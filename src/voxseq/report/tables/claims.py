"""A verdict on each of the paper's claims, from this study's rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from voxseq.config.registry import METHODS
from voxseq.config.report_run import REFERENCE, ReportRun
from voxseq.evaluation.comparison import Comparison
from voxseq.evaluation.statistics import SEEDS_ALL, SEEDS_PRIMARY, SEEDS_SAFE, holm
from voxseq.report.metrics import PRINTED
from voxseq.report.sheet import NOT_APPLICABLE, Cell, Sheet, text_block
from voxseq.report.tables.claimed import Claim, Place, claims, paper_score
from voxseq.report.tables.rows import RowKey, RowScores
from voxseq.report.writers import notes

SUPPORTED, CONTRADICTED, OPEN, NOT_RUN = "supported", "contradicted", "cannot tell", "not run"
COLUMNS = (
    *("claim", "text", "table", "contrast", "test", "metric", "paper"),
    *("decided_by", "difference", "low", "high", "p_one_sided", "level", "margin"),
    *("seeds", "cases", "verdict", "claim_verdict", "detectable", "paper_in_interval", "remark"),
)
#: Word before the columns among what is missing, which rows come before.
_COLUMN = "column"
HEADER = (
    *("Claim", "Difference", "Paper", "Here [95 % interval]", "Seeds", "Cases"),
    *("Verdict", "Could have seen", "Remark"),
)


@dataclass(frozen=True)
class Piece:
    """One difference that a claim says to be above zero.

    Attributes:
        label: of the difference.
        metric: of its scores.
        paper: the paper's value, 0..1, from its tables.
        found: this study's; ``None`` where a row has not run.
        missing: rows and tasks that are not there.
        p: one-sided, against "not above minus the margin"; corrected where the claim says so.
        against: one-sided, against "not below minus the margin", corrected over the pieces.
    """

    label: str
    metric: str
    paper: float
    found: Comparison | None
    missing: tuple[str, ...] = ()
    p: float = math.nan
    against: float = math.nan


def claims_frame(scores: RowScores) -> pd.DataFrame:
    """Every claim with its verdict, one row for each part that is judged apart.

    Returns:
        Columns ``COLUMNS``. Differences are 0..1: the paper's, and of this study the one with the
        largest one-sided p, by which the claim is decided. ``detectable`` is the smallest
        difference that the test would have seen in four of five such studies, NaN where nothing is
        tested.
    """
    judge = _Judge(scores, Place(scores.study))
    rows = [row for claim in claims() for row in judge.rows(claim)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


class _Judge:
    """Finds the differences of claims, and judges them."""

    def __init__(self, scores: RowScores, place: Place) -> None:
        self._scores = scores
        self._place = place
        self._known: dict[tuple[Any, ...], dict[RowKey, Comparison | None]] = {}

    def rows(self, claim: Claim) -> list[dict[str, Any]]:
        """One row of the frame for each part of a claim."""
        parts = [
            self._judged(claim, paper, pieces)
            for paper, pieces in zip(claim.paper_values, self._parts(claim), strict=True)
        ]
        whole = _whole([part["verdict"] for part in parts])
        return [{**part, "claim_verdict": whole} for part in parts]

    def _parts(self, claim: Claim) -> Iterator[list[Piece]]:
        pieces = list(self._pieces(claim))
        if claim.parts == "row":
            yield from ([piece] for piece in pieces)
        elif claim.parts == "column":
            count = len(pieces) // len(claim.columns)
            yield from (pieces[i : i + count] for i in range(0, len(pieces), count))
        else:
            yield pieces

    def _judged(self, claim: Claim, paper: float, pieces: Sequence[Piece]) -> dict[str, Any]:
        names = dict.fromkeys(name for piece in pieces for name in piece.missing)
        missing = sorted(names, key=lambda name: name.startswith(_COLUMN))
        row = {
            **{"claim": claim.id, "text": claim.text, "table": claim.table, "test": claim.test},
            **{"contrast": claim.contrast, "metric": pieces[0].metric, "paper": paper},
            **{"level": claim.level, "margin": claim.margin},
        }
        found = [piece.found for piece in pieces if piece.found is not None]
        if missing or len(found) < len(pieces):
            gone = missing or [piece.label for piece in pieces if piece.found is None]
            remark = f"missing: {', '.join(gone)}"
            of_part = pieces[0].label if claim.parts else ""
            nothing = {"decided_by": of_part, "seeds": 0, "cases": 0, "paper_in_interval": ""}
            return {**row, **nothing, "verdict": NOT_RUN, "remark": remark}
        tested = self._tested(claim, pieces)
        worst = max(tested, key=lambda piece: (_known(piece.p), -_difference(piece)))
        shown = worst.found
        assert shown is not None
        verdict, remark = _verdict(claim, tested, min(one.seeds for one in found))
        share = claim.level / (len(self._family(claim)) if claim.holm else 1)
        seen = [one.detectable(share) for one in found]
        inside = shown.low <= paper <= shown.high
        return {
            **row,
            **{"decided_by": worst.label, "difference": shown.difference},
            **{"low": shown.low, "high": shown.high, "p_one_sided": worst.p},
            **{"seeds": min(one.seeds for one in found), "cases": shown.cases},
            **{"verdict": verdict, "detectable": max(seen)},
            **{"paper_in_interval": "yes" if inside else "no", "remark": remark},
        }

    def _tested(self, claim: Claim, pieces: Sequence[Piece]) -> list[Piece]:
        """The pieces with their p values."""
        shifted = [piece.found.shifted(claim.margin) for piece in pieces if piece.found]
        up = [one.one_sided for one in shifted]
        down = holm([one.turned().one_sided for one in shifted])
        if claim.holm:
            up, down = (self._in_family(claim, pieces, turned=turned) for turned in (False, True))
        values = zip(pieces, up, down, strict=True)
        return [replace(piece, p=p, against=q) for piece, p, q in values]

    def _in_family(self, claim: Claim, pieces: Sequence[Piece], *, turned: bool) -> list[float]:
        """One-sided p values of a claim's pieces, corrected over its family."""
        family = self._family(claim)
        own = [piece.label for piece in pieces]
        # With few seeds only the primary contrasts are tested, and corrected among themselves.
        counted = {p.label: p.found for p in family if p.found is not None}
        counted |= {p.label: p.found for p in pieces if p.found is not None}
        tests = [one.turned() if turned else one for one in counted.values()]
        p = dict(zip(counted, holm([one.one_sided for one in tests]), strict=True))
        return [p[label] for label in own]

    def _family(self, claim: Claim) -> list[Piece]:
        whole = list(self._pieces(replace(claim, rows=claim.holm)))
        seeds = [piece.found.seeds for piece in whole if piece.found is not None]
        if claim.is_primary and seeds and min(seeds) < SEEDS_ALL:
            named = tuple(c.named for c in claims() if c.is_primary and c.table == claim.table)
            return list(self._pieces(replace(claim, rows=named)))
        return whole

    def _pieces(self, claim: Claim) -> Iterator[Piece]:
        """The differences of a claim, columns one after the other."""
        if claim.kind == "interaction":
            yield from self._interaction(claim)
            return
        for column, metric in claim.columns:
            if claim.kind == "groups":
                yield self._groups(claim, column, metric)
            elif claim.kind == "trend":
                yield self._trend(claim, column, metric)
            else:
                for name in claim.rows:
                    yield self._lead(claim, column, metric, name)

    def _lead(self, claim: Claim, column: str, metric: str, name: str) -> Piece:
        """The reference minus a row, or for a gain the row minus the reference."""
        sides = (claim.reference[0], name)
        one, other = sides[::-1] if claim.kind == "gain" else sides
        label = self._label(claim, [one], [other], column, metric)
        paper = self._paper(claim, one, column, metric) - self._paper(claim, other, column, metric)
        keys, missing = self._keys(claim, sides)
        tasks, gone = self._tasks(column)
        piece = Piece(label, metric, paper, None, (*missing, *gone))
        if piece.missing:
            return piece
        reference, row = keys
        if claim.table == 3:
            found = self._scores.contrast(metric, tasks, keys, [[1, -1]])
        else:
            found = self._beside(claim, metric, tasks, reference).get(row)
        if found is not None and claim.kind == "gain":
            found = found.turned()
        return replace(piece, found=found)

    def _beside(
        self, claim: Claim, metric: str, tasks: Sequence[str], reference: RowKey
    ) -> dict[RowKey, Comparison | None]:
        """The reference minus each row of the table, compared together as in the table."""
        key = (claim.table, metric, *tasks, reference)
        if key not in self._known:
            task = self._scores.study.tasks[tasks[0]]
            others = self._place.beside(claim.table, task, reference)
            results = self._scores.against(metric, tasks, reference, others)
            self._known[key] = dict(zip(others, results, strict=True))
        return self._known[key]

    def _groups(self, claim: Claim, column: str, metric: str) -> Piece:
        """Mean of some rows minus the mean of others."""
        label = self._label(claim, claim.reference, claim.rows, column, metric)
        ours, others = (
            [self._paper(claim, name, column, metric) for name in names]
            for names in (claim.reference, claim.rows)
        )
        keys, missing = self._keys(claim, (*claim.reference, *claim.rows))
        tasks, gone = self._tasks(column)
        piece = Piece(label, metric, float(np.mean(ours) - np.mean(others)), None)
        if missing or gone:
            return replace(piece, missing=(*missing, *gone))
        weights = [1 / len(ours)] * len(ours) + [-1 / len(others)] * len(others)
        every = [[weight / len(tasks) for weight in weights]] * len(tasks)
        return replace(piece, found=self._scores.contrast(metric, tasks, keys, every))

    def _trend(self, claim: Claim, column: str, metric: str) -> Piece:
        """Slope over tenfold labels; a study may lack shares between the first and the last."""
        names = (*claim.reference, *claim.rows)
        first, last = (self._paper(claim, name, column, metric) for name in (names[0], names[-1]))
        title, header = self._place.column_title(column), PRINTED[metric].title
        label = f"{METHODS[REFERENCE].title}, slope over tenfold labels: {header}, {title}"
        piece = Piece(label, metric, first - last, None)
        _, missing = self._keys(claim, (names[0], names[-1]))
        tasks, gone = self._tasks(column)
        if missing or gone:
            return replace(piece, missing=(*missing, *gone))
        keys, _ = self._keys(claim, names)
        shares = np.log10([key.ratio for key in keys])
        centred = shares - shares.mean()
        slope = self._scores.contrast(metric, tasks, keys, [centred / (centred**2).sum()])
        return replace(piece, found=slope)

    def _interaction(self, claim: Claim) -> Iterator[Piece]:
        """The lead in the first column, and how much larger it is than in each of the others."""
        (first, metric), *others = claim.columns
        (row,) = claim.rows
        lead = self._lead(claim, first, metric, row)
        yield lead
        keys, missing = self._keys(claim, (*claim.reference, row))
        tasks, gone = self._tasks(first)
        for column, _ in others:
            title = self._place.column_title(column)
            paper = lead.paper - self._lead(claim, column, metric, row).paper
            piece = Piece(f"{lead.label}, less that on {title}", metric, paper, None)
            more, lacking = self._tasks(column)
            if missing or gone or lacking:
                yield replace(piece, missing=(*missing, *gone, *lacking))
                continue
            weights = [[1, -1], [-1, 1]]
            found = self._scores.contrast(metric, [*tasks, *more], keys, weights)
            yield replace(piece, found=found)

    def _keys(self, claim: Claim, names: Sequence[str]) -> tuple[list[RowKey], list[str]]:
        """Rows of the study, and titles of those that it does not have."""
        found = {name: self._place.row(claim.table, name) for name in names}
        missing = [self._place.title(claim.table, name) for name, row in found.items() if not row]
        return [row for row in found.values() if row is not None], missing

    def _tasks(self, column: str) -> tuple[list[str], list[str]]:
        """Tasks of a column, and its title where the study does not have it."""
        tasks = self._place.tasks(column)
        return tasks, [] if tasks else [f"{_COLUMN} {self._place.column_title(column)}"]

    def _label(
        self, claim: Claim, ones: Sequence[str], others: Sequence[str], column: str, metric: str
    ) -> str:
        one, other = (
            " and ".join(self._place.title(claim.table, name) for name in names)
            for names in (ones, others)
        )
        title, header = self._place.column_title(column), PRINTED[metric].title
        return f"{one} - {other}: {header}, {title}"

    def _paper(self, claim: Claim, name: str, column: str, metric: str) -> float:
        return paper_score(claim.table, name, column, metric)


def _known(p: float) -> float:
    return 0.0 if math.isnan(p) else p


def _difference(piece: Piece) -> float:
    return piece.found.difference if piece.found is not None else math.nan


def _verdict(claim: Claim, pieces: Sequence[Piece], seeds: int) -> tuple[str, str]:
    """The verdict, and what a reader should know of it."""
    if seeds == 1:
        return OPEN, "one seed"
    if seeds < SEEDS_PRIMARY or (seeds < SEEDS_ALL and not claim.is_primary):
        need = SEEDS_PRIMARY if claim.is_primary else SEEDS_ALL
        return OPEN, f"{seeds} seeds: a verdict takes {need}"
    if all(piece.p < claim.level for piece in pieces):
        return SUPPORTED, ""
    if any(piece.against < claim.level for piece in pieces):
        return CONTRADICTED, ""
    return OPEN, ""


def _whole(verdicts: Sequence[str]) -> str:
    """Verdict on a claim of several parts: it holds if all do."""
    for verdict in (CONTRADICTED, NOT_RUN, OPEN):
        if verdict in verdicts:
            return verdict
    return SUPPORTED


def claims_sheet(study: ReportRun, frame: pd.DataFrame) -> Sheet:
    """The claims as one block; a claim of two parts has two lines."""
    rows = list(_lines(frame))
    whole = frame.drop_duplicates("claim")["claim_verdict"]
    counts = [
        (int((whole == name).sum()), name) for name in (SUPPORTED, CONTRADICTED, OPEN, NOT_RUN)
    ]
    lines = notes(
        "notes_claims.txt",
        counts=[f"{count} {name}" for count, name in counts if count],
        scale=study.scale,
        one_seed=bool((frame["seeds"] == 1).any()),
        unmet=list(dict.fromkeys(_unmet(frame))),
        few=bool(frame["seeds"].between(2, SEEDS_SAFE - 1).any()),
    )
    title = "The paper's claims at this scale"
    return Sheet("claims", title, (text_block("", HEADER, rows),), lines, phantoms=study.phantoms)


def _unmet(frame: pd.DataFrame) -> Iterator[str]:
    """Claims with a margin that the paper's own values do not meet."""
    for row in frame.to_dict("records"):
        if row["margin"] and row["paper"] < -row["margin"]:
            yield str(row["claim"])


def _lines(frame: pd.DataFrame) -> Iterator[list[str | Cell]]:
    said: set[str] = set()
    for row in frame.to_dict("records"):
        name = row["claim"]
        yield [name if name in said else f"{name}. {row['text']}", *_cells(row)]
        said.add(name)


def _size(row: Mapping[Any, Any]) -> str:
    """How the paper's difference compares with the interval."""
    if row["paper_in_interval"] == "yes":
        return "the paper's value is in the interval"
    side = "above" if row["paper"] > row["high"] else "below"
    return f"the paper's value is {side} the interval"


def _cells(row: Mapping[Any, Any]) -> list[str | Cell]:
    metric = PRINTED[row["metric"]]
    scale = 100 if metric.unit == "%" else 1
    paper = f"{scale * row['paper']:+z.{2 if scale > 1 else 4}f}"
    if row["verdict"] == NOT_RUN:
        dash = NOT_APPLICABLE
        difference = row["decided_by"] or row["contrast"]
        return [difference, paper, dash, dash, dash, NOT_RUN, dash, row["remark"]]
    seen = row["detectable"]
    is_sure = row["verdict"] in (SUPPORTED, CONTRADICTED)
    return [
        row["decided_by"],
        paper,
        metric.gap(row["difference"], row["low"], row["high"]),
        str(row["seeds"]),
        str(row["cases"]),
        Cell(text=row["verdict"], best=is_sure),
        NOT_APPLICABLE if math.isnan(seen) else f"{scale * seen:.{metric.digits}f}",
        row["remark"] or _size(row),
    ]
