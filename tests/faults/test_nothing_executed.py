"""Nothing is executed from data, and names may hold anything."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest

from tests.helpers import ROOT
from tests.helpers.bad_nifti import trees
from tests.helpers.places import Place, Say, Zygote, study
from tests.helpers.spoilt import CONFIG
from voxseq.base.errors import IntegrityError
from voxseq.data.store import VolumeStore

SOURCES = sorted((ROOT / "src/voxseq").rglob("*.py"))
#: Names that a shell, a path or a table could stumble over.
NAMES = (
    *("a b", "it's", 'say "so"', "$(touch witness)", "`touch witness`", "; touch witness;"),
    *("a\nb", "tab\there", "*?[x]", "-rf", "%2F%s{x}", "ünï", "#&|<>", "~", "x" * 200),
)
#: Calls that run what they read, and what makes them harmless.
DANGEROUS: dict[str, str | None] = {
    **dict.fromkeys(("eval", "exec", "compile", "os.system", "os.popen", "pickle.load"), None),
    **dict.fromkeys(("pickle.loads", "marshal.load", "marshal.loads", "shelve.open"), None),
    **dict.fromkeys(("joblib.load", "pd.read_pickle", "pandas.read_pickle", "dill.load"), None),
    **dict.fromkeys(("yaml.full_load", "yaml.unsafe_load", "tempfile.mktemp"), None),
    **dict.fromkeys(("sitk.ReadImage", "SimpleITK.ReadImage"), None),
    "torch.load": "weights_only=True",
    "np.load": "allow_pickle=False",
    "numpy.load": "allow_pickle=False",
    "yaml.load": "Loader=",
}
LOADERS = ("_StrictLoader", "SafeLoader", "CSafeLoader")


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_the_source_calls_nothing_that_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        for name, node in calls(path):
            said = f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:120]}"
            if name in DANGEROUS:
                needed = DANGEROUS[name]
                assert needed is not None, said
                assert needed in ast.unparse(node), said
            if name == "yaml.load":
                assert any(loader in ast.unparse(node) for loader in LOADERS), said
            if name.split(".")[0] in ("subprocess", "Popen"):
                assert "shell=True" not in ast.unparse(node), said
                assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), said
            assert name.split(".")[-1] not in ("extractall", "unpack_archive"), said


def test_the_source_imports_nothing_that_unpickles() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                said = ast.unparse(node)
                assert not re.search(r"\b(pickle|dill|cloudpickle|marshal|shelve)\b", said), path


def test_a_stored_volume_that_is_a_program_is_refused(tmp_path: Path) -> None:
    trees.msd(tmp_path / "data", ["a", "b", "c", "d"])
    trees.run_download(tmp_path / "data", tmp_path, "task09_spleen", trees.SEGMENTATION)
    folder = trees.run_preprocess(
        tmp_path / "data", tmp_path, "task09_spleen", {"window": [-900, 900]}
    )
    path = folder / "volumes-000.bin"
    path.unlink()
    operand = blosc2.asarray(np.zeros((4, 4, 4)), urlpath=str(tmp_path / "x.b2nd"), mode="w")
    blosc2.lazyudf(_witness, (operand,), np.float64, shape=(4, 4, 4)).save(urlpath=str(path))
    with pytest.raises(IntegrityError, match=r"volumes-000\.bin"):
        VolumeStore(folder).crop(0, (0, 0, 0), (1, 1, 1))


def _witness(inputs: Any, output: Any, offset: Any) -> None:
    output[:] = inputs[0]


@pytest.fixture
def odd(zygote: Zygote, tmp_path: Path) -> Place:
    """A workspace and a data root whose own names are odd."""
    folder = tmp_path / "wörk $(touch witness) `touch witness`;\n'x' \"y\" & {z} %s"
    place = Place(folder, zygote, study(**CONFIG))
    (folder / "my data $(touch witness)").mkdir(parents=True)
    return place


def run(place: Place, stage: str, name: str) -> None:
    data = str(place.folder / "my data $(touch witness)")
    ended = place.run(stage, name, environment={"VOXSEQ_DATA": data})
    assert ended.status == 0, ended.said
    assert "Traceback" not in ended.output


def untouched(place: Place) -> None:
    """No command that stands in a name was carried out."""
    assert not [p for p in place.folder.parent.rglob("witness*") if p.name == "witness"]
    assert not (ROOT / "witness").exists()


def test_odd_names_of_subjects_and_folders_pass_through(odd: Place, scenario: Say) -> None:
    data = odd.folder / "my data $(touch witness)"
    trees.msd(data, NAMES)
    series = data / "dicom"
    for number, name in enumerate(NAMES):
        trees.dicom_series(series / name / "s", np.abs(trees.image((9, 8, 7), number)))
    run(odd, "download", "task09_spleen")
    run(odd, "preprocess", "task.task09_spleen")
    run(odd, "download", "dicom_ct")
    run(odd, "preprocess", "source.dicom_ct")
    untouched(odd)
    base = odd.folder / odd.plan.artefacts
    with (base / "download/task09_spleen/splits.csv").open(newline="") as file:
        assert {row["subject"] for row in csv.DictReader(file)} == set(NAMES)
    store = VolumeStore(base / "preprocess/task/task09_spleen")
    assert set(store.table.to_pandas()["subject"]) == set(NAMES)
    assert store.crop(0, (0, 0, 0), (1, 1, 1)).shape == (1, 1, 1)
    stored = VolumeStore(base / "preprocess/source/dicom_ct")
    assert len(stored) == len(NAMES)
    scenario(
        f"{len(NAMES)} subjects and folders named like commands, quotes and newlines, in a "
        "workspace and a data folder named so too: nothing executed, all names kept"
    )


@pytest.mark.slow
def test_a_whole_training_in_a_folder_of_an_odd_name(
    straight: Place, tmp_path: Path, scenario: Say
) -> None:
    place = straight.copy(tmp_path / "$(touch witness) 'a' \"b\"\n;c")
    for stage, name in (
        ("pretrain", "ours"),
        ("finetune", "ours.part0"),
        ("beyond", "finetune.probes.part0"),
    ):
        place.forget(stage, name)
        place.do(stage, name, workers=2)
        assert place.results(stage, name) == straight.results(stage, name)
    untouched(place)
    scenario("trainings in a folder named like a command: the same bits")


class _Tags(HTMLParser):
    """Names of the elements of a page that could run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] * (tag in ("script", "iframe", "object", "embed"))
        self.found += [name for name, _ in attrs if name.startswith("on")]


TITLE = "x $(touch witness) `touch witness` <script>alert(1)</script> & | % _ \" ' \\ # {0} =1+1"


@pytest.mark.slow
def test_odd_titles_reach_tables_figures_and_report_as_text(
    complete: Place, tmp_path: Path, scenario: Say
) -> None:
    place = complete.copy(tmp_path / "x", finetune={"tasks": {"task06_lung": {"title": TITLE}}})
    before = _elements(complete)
    for stage in ("finetune", "beyond", "tables", "figures"):
        for job in place.plan.of_stage(stage):  # type: ignore[arg-type]
            place.do(stage, job.name)
    untouched(place)
    assert _elements(place) == before
    results = place.folder / place.plan.results
    pages = "".join(p.read_text() for p in (results / "report").rglob("*.html"))
    assert "<script>alert" not in pages
    assert "&lt;script&gt;alert" in pages
    for path in (results / "tables").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1, path
    for path in (results / "tables").glob("*.tex"):
        text = path.read_text()
        assert "& | % _" not in text, path
        assert not re.search(r"(?<!\\)\$\(touch", text), path
    scenario("a task's title with commands, markup and TeX: shown as text everywhere")


def _elements(place: Place) -> list[str]:
    parser = _Tags()
    for path in sorted((place.folder / place.plan.results / "report").rglob("*.html")):
        parser.feed(path.read_text())
    return sorted(parser.found)
