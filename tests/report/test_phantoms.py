"""A study on phantoms says so first in everything that it publishes; no other study does."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from jinja2 import Template
from PIL import Image

from tests.helpers.own_study import own
from voxseq.base.errors import DataError
from voxseq.cli import show
from voxseq.config import load_config
from voxseq.config.data import PHANTOMS, PhantomConfig
from voxseq.config.place import FOLDERS
from voxseq.data import examine as download
from voxseq.plan import build_plan
from voxseq.plan.outputs import METRICS, lasting

#: Share of a picture that its first line may take.
FIRST_LINE = 0.2
TABLES = (1, 2, 3, 4, 5)
SEQUENCES = {"sources": [{"dataset": "mine", "kind": "spatial"}]}


def files(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    folders = {p.relative_to(folder).parts[0] for p in found}
    # The files of the seeds are written by a stage of their own.
    assert folders == {METRICS}.union(*FOLDERS.values()) - {"scores"}
    assert {p.suffix for p in found} == {".csv", ".html", ".json", ".md", ".png", ".tex"}
    return found


def has_line_above(png: bytes) -> bool:
    """Whether the first thing in a picture is a line in the colour of warnings."""
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    inked = np.flatnonzero((pixels < 200).any(axis=2).any(axis=1))
    first = pixels[inked[0] : inked[0] + 4]
    marked = (first[..., 0] > first[..., 2] + 60).sum()
    return inked[0] < FIRST_LINE * len(pixels) and marked > 20


def says_so(path: Path) -> bool:
    """Whether the first line, record, element or line of a picture says that data are phantoms."""
    if path.suffix == ".png":
        with Image.open(path) as image:
            title = image.info.get("Title", "")
        return title == PHANTOMS and has_line_above(path.read_bytes())
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        header, *rows = csv.reader(io.StringIO(text))
        return bool(rows) and header[0] == "data" and {row[0] for row in rows} == {"phantoms"}
    if path.suffix == ".json":
        return bool(json.loads(text).get("data") == "phantoms")
    if path.suffix == ".html":
        head, body = re.split(r"<body>\s*", text)
        assert "phantoms" in re.findall("<title>(.*?)</title>", head)[0]
        return PHANTOMS in body.splitlines()[0]
    return PHANTOMS in text.splitlines()[0]


@pytest.mark.slow
def test_everything_of_a_study_on_phantoms_says_so_first(of_phantoms: Path) -> None:
    silent = [str(p.relative_to(of_phantoms)) for p in files(of_phantoms) if not says_so(p)]
    assert silent == []
    for path in of_phantoms.rglob("*.tex"):
        assert PHANTOMS in path.read_text().split(r"\caption{")[1]
    for name in ("index.html", "cases.html"):
        page = (of_phantoms / "report" / name).read_text(encoding="utf-8")
        pictures = re.findall(r"data:image/\w+;base64,([^\"]+)", page)
        assert len(pictures) > 1
        assert all(has_line_above(base64.b64decode(picture)) for picture in pictures)
    assert show.printed(of_phantoms, TABLES).startswith(PHANTOMS)


@pytest.mark.slow
def test_a_study_on_real_volumes_says_nothing_of_phantoms(of_volumes: Path) -> None:
    for path in files(of_volumes):
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert not image.info.get("Title")
            assert not has_line_above(path.read_bytes()), path.name
        else:
            assert "phantom" not in path.read_text(encoding="utf-8").lower(), path.name
    assert "phantom" not in show.printed(of_volumes, TABLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["heatmap", "reliability"])
def test_a_line_above_leaves_the_rest_of_a_figure_as_it_is(
    name: str, of_phantoms: Path, of_volumes: Path
) -> None:
    with (
        Image.open(of_phantoms / f"figures/{name}.png") as first,
        Image.open(of_volumes / f"figures/{name}.png") as second,
    ):
        assert first.width == second.width
        assert 5 < first.height - second.height < 15


@pytest.mark.parametrize("root_folder", [None, "data/here"])
def test_the_plan_knows_whether_data_are_phantoms(root: Path, root_folder: str | None) -> None:
    plan = build_plan(load_config(root / "params.yaml", [{"data": {"root": root_folder}}]))
    for run in ("tables/all", "figures/all"):
        study = plan.runs[run].config
        assert study.phantoms == (root_folder is None)


@pytest.mark.parametrize("root_folder", [None, "data/here"])
def test_the_log_of_a_run_on_phantoms_says_so(root: Path, root_folder: str | None) -> None:
    plan = build_plan(load_config(root / "params.yaml", [{"data": {"root": root_folder}}]))
    of_data = [run for run in plan.runs.values() if run.stage in ("download", "pretrain", "tables")]
    assert {plan.reads_phantoms(run) for run in of_data} == {root_folder is None}


def test_every_caption_of_the_workflows_report_begins_with_the_data(root: Path) -> None:
    captions = sorted((root / "workflow/report").glob("*.rst"))
    assert len(captions) > 10
    for path in captions:
        text = path.read_text(encoding="utf-8")
        assert text.startswith("{{ snakemake.params.data }}\n\n")
        params = SimpleNamespace(data="", papers=False)
        shown = Template(text).render(snakemake=SimpleNamespace(params=params))
        assert shown.strip().startswith("**")
        assert not re.search(r"paper|\bours?\b|Table \d|Figure \d", shown), path.name


def test_every_table_and_figure_of_a_study_has_a_caption(root: Path) -> None:
    """Snakemake's own report shows those files that have one."""
    study = own(ratios=("organs",), ablation=("age",), beyond=("sick",), sequences=SEQUENCES)
    shown = {"tables": ".md", "figures": ".png"}
    names = [Path(name) for stage in shown for name in lasting(stage, study)]
    stems = {n.stem for n in names if shown.get(n.parts[0]) == n.suffix}
    assert {"table6", "figure1", "structures", "regression", "confusion", "reliability"} <= stems
    captions = {path.stem for path in (root / "workflow/report").glob("*.rst")}
    assert stems - captions <= {"collapse"}


def test_the_log_of_a_data_set_says_that_phantoms_are_generated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def generate(*given: object) -> None:
        raise DataError("far enough")

    monkeypatch.setattr("voxseq.phantoms.generate", generate)
    config = SimpleNamespace(dataset="la", own=None, phantoms=PhantomConfig())
    context = SimpleNamespace(config=config, out=tmp_path, data_root=None)
    with caplog.at_level(logging.INFO), pytest.raises(DataError, match="far enough"):
        download.execute(context)  # type: ignore[arg-type]
    assert "la: phantoms are generated" in caplog.text
