"""Predicting many images into a folder: resumable, and one bad image does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from voxseq.base import processes
from voxseq.base.errors import DataError, NotFiniteError
from voxseq.base.files import remove_temporaries, write_csv
from voxseq.base.locks import exclusive
from voxseq.base.paths import plain
from voxseq.base.progress import track
from voxseq.data.prepared import PreparedImage
from voxseq.models.bundle import ModelCard
from voxseq.predict.files import FORMATS, Format, Place, write_volume
from voxseq.predict.inputs import Case, read_channels
from voxseq.predict.journal import Journal
from voxseq.predict.model import Options, TrainedModel, prepare
from voxseq.predict.results import Classification, Prediction, Regression, Segmentation

_LOG = logging.getLogger("voxseq.predict")
#: Table of classes or numbers.
TABLE = "predictions.csv"
#: Folders of what is written beside the labels of a segmentation.
PROBABILITIES, UNCERTAINTY, SPREAD = "probabilities", "uncertainty", "spread"


@dataclass
class Outcome:
    """What became of the images.

    Attributes:
        done: names of those that this call has predicted.
        kept: names of those that an earlier call had.
        failed: name → reason of those that could not be predicted.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A case that was read: its prepared image and its grid, or the reason why there is none."""

    case: Case
    image: PreparedImage | None = None
    place: Place | None = None
    problem: str = ""


def predict_cases(
    model: TrainedModel,
    cases: Sequence[Case],
    out: Path,
    options: Options | None = None,
    *,
    ending: Format | None = None,
    dicom_seg: bool = False,
    workers: int = 0,
) -> Outcome:
    """Predict images into a folder.

    A segmentation's labels are in a file of the case's name; probabilities, uncertainty and spread
    in folders beside them. Classes and numbers are in ``predictions.csv``. Files are written whole
    or not at all; called again, finished images are left as they are.

    Args:
        model: one, or an ensemble.
        cases: the images.
        out: the folder; it is made.
        options: how they are predicted.
        ending: of the files; None: as each input has it, .nii.gz of DICOM series.
        dicom_seg: whether labels of DICOM series are written as DICOM-SEG objects besides.
        workers: processes that read and prepare images beside this one.

    Raises:
        DataError: the folder has predictions that were made otherwise, or files of these names
            that no prediction has made, such as the images themselves.
        ConfigError: ``dicom_seg`` without highdicom.
        ResourceError: the machine failed; the same call resumes.
    """
    options = options or Options()
    if dicom_seg:
        from voxseq.predict.dicom_seg import require_highdicom
        from voxseq.predict.dicom_seg import slices_of as require_slices

        require_highdicom()
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out / ".predictions.lock", f"predicting into {out}"):
        journal = Journal(out, _made_by(model, options, ending, dicom_seg))
        outcome = Outcome(kept=[case.name for case in cases if journal.finished(case)])
        left = [case for case in cases if case.name not in set(outcome.kept)]
        is_mask = model.card.recipe.type == "segmentation"
        if is_mask:
            # Before hours of work. What else is written per case is looked at when it is.
            for case in left:
                journal.require_own([out / _mask(case, ending)], case.paths)
        elif not outcome.kept:
            journal.claim([out / TABLE])
        try:
            for prepared in _in_turn(model.card, left, len(cases), workers):
                case = prepared.case
                try:
                    cards = model.cards if dicom_seg and case.is_series and is_mask else ()
                    if cards:
                        # Before the work: a case has all of its files or none.
                        require_slices(case)
                    found = _predicted(model, prepared, options)
                    files = _write(journal, case, found, ending, cards)
                    journal.add(case, files, _values(found))
                    outcome.done.append(case.name)
                except (DataError, NotFiniteError) as error:
                    outcome.failed[case.name] = error.what
                    _LOG.warning("%s is left out: %s", case.name, error)
        finally:
            if not is_mask:
                _write_table(out, journal.values([case.name for case in cases]))
    return outcome


def _made_by(
    model: TrainedModel, options: Options, ending: Format | None, dicom_seg: bool
) -> dict[str, Any]:
    weights = [card.weights.sha256 if card.weights else "" for card in model.cards]
    return {
        "models": [card.name for card in model.cards],
        "weights": weights,
        "type": model.card.recipe.type,
        "labels": list(model.card.recipe.labels),
        "options": asdict(options),
        "format": ending,
        "dicom_seg": dicom_seg,
    }


def _in_turn(
    card: ModelCard, cases: Sequence[Case], total: int, workers: int
) -> Iterator[_Prepared]:
    title = "predicting"
    work = processes.Work[Case](title, lambda case: case.name, "preprocess")
    prepared = processes.in_order(partial(_prepared, card), cases, workers, work)
    return track(prepared, title, total, total - len(cases))


def _prepared(card: ModelCard, case: Case) -> _Prepared:
    """Read and prepare one case; it may be done by another process."""
    try:
        volumes = read_channels(case)
        path = None if case.is_series else case.paths[0]
        return _Prepared(case, prepare(volumes, card), Place.of(volumes[0], path))
    except DataError as error:
        return _Prepared(case, problem=str(error))


def _predicted(model: TrainedModel, prepared: _Prepared, options: Options) -> Prediction:
    if prepared.image is None or prepared.place is None:
        what, _, hint = prepared.problem.partition("\n  next: ")
        raise DataError(what, hint)
    return model.predict_prepared(prepared.image, prepared.place, options)


def ending_for(case: Case, ending: Format | None) -> Format:
    """Ending of the files of a case: the one that is asked for, or that of its input."""
    if ending is not None:
        return ending
    return next((known for known in FORMATS if case.ending == known), ".nii.gz")


def _mask(case: Case, ending: Format | None) -> str:
    return f"{case.name}{ending_for(case, ending)}"


def _write(
    journal: Journal,
    case: Case,
    found: Prediction,
    ending: Format | None,
    cards: Sequence[ModelCard],
) -> list[Path]:
    """Write the files of a segmentation; none of other predictions.

    ``cards``: models that a DICOM-SEG object besides names; without any there is none.
    """
    if not isinstance(found, Segmentation):
        return []
    out, name = journal.out, _mask(case, ending)
    arrays = {name: found.labels}
    if found.probabilities is not None:
        for label, values in zip(("background", *found.names), found.probabilities, strict=True):
            arrays[f"{PROBABILITIES}/{plain(label)}/{name}"] = values
    if found.uncertainty is not None:
        arrays[f"{UNCERTAINTY}/{name}"] = found.uncertainty
    if found.spread is not None:
        arrays[f"{SPREAD}/{name}"] = found.spread
    files = [out / path for path in arrays]
    if cards:
        files.insert(0, out / f"{case.name}.dcm")
    journal.claim(files)
    if cards:
        from voxseq.predict.dicom_seg import write_dicom_seg

        # First, as not every mask can be one.
        write_dicom_seg(files[0], case, found, cards)
    for name, array in arrays.items():
        remove_temporaries(out / name)
        write_volume(out / name, array, found.place)
    return files


def _values(found: Prediction) -> dict[str, Any]:
    """Row of the table of predictions."""
    match found:
        case Classification():
            chances = found.probabilities
            columns: dict[str, Any] = {"class": found.label}
            if len(found.names) == 2:
                columns["probability"] = float(chances[1])
            else:
                pairs = zip(found.names, chances, strict=True)
                columns |= {f"probability_{name}": float(chance) for name, chance in pairs}
            columns["uncertainty"] = found.uncertainty
        case Regression():
            columns = {"value": found.value}
        case _:
            return {}
    return columns if found.spread is None else {**columns, "spread": found.spread}


def _write_table(out: Path, rows: dict[str, dict[str, Any]]) -> None:
    if not rows:
        return
    columns = list(next(iter(rows.values())))
    lines = [[name, *(_shown(row[c]) for c in columns)] for name, row in rows.items()]
    write_csv(out / TABLE, ("case", *columns), lines)


def _shown(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
