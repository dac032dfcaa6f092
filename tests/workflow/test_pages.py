"""Commands on the pages of the documentation: they exist, and those of the quickstart are run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import trees
from tests.helpers.pages import PAGES, ROOT, blocks, calls, check
from tests.helpers.preloaded import preloaded
from tests.helpers.study import Study
from voxseq.config import load_config, read_yaml

LINES = [
    (page, line) for page in PAGES if page.is_file() for b in blocks(page) for line in b.commands
]


@pytest.mark.parametrize(
    ("page", "line"), LINES, ids=[f"{p.relative_to(ROOT)}: {line[:60]}" for p, line in LINES]
)
def test_commands_exist(page: Path, line: str) -> None:
    for words in calls(line):
        check(words)


@pytest.mark.parametrize(
    "line",
    [
        *("voxseq plann", "voxseq plan --scael demo", "voxseq close pretrain", "voxseq code"),
        *("snakemake --coers 1", "snakemake --cores all -- pretraining", "make tests"),
        *("dvc reproduce", "dvc exp run --set-parameter a=1", "pip install 'voxseq[slurm]'"),
        *("voxsec plan", "snakemake -n --configfile workflow/scales/none.yaml -- data"),
        "snakemake --cores 1 --workflow-profile profiles/none -- data",
    ],
)
def test_a_mistake_is_noticed(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        for words in calls(line):
            check(words)


def test_the_environment_is_active_before_it_is_used() -> None:
    for name in ("README.md", "docs/quickstart.md"):
        for block in blocks(ROOT / name):
            if any(line.startswith(". .venv/bin/activate") for line in block.commands):
                break
            assert all(line.startswith("make ") for line in block.commands), block


def test_the_quickstarts_overlay_fits_the_demo(tmp_path: Path) -> None:
    (text,) = re.findall(
        r"```yaml\n(scale: mine\n.*?)```", (ROOT / "docs/quickstart.md").read_text(), re.DOTALL
    )
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    config = load_config(ROOT / "params.yaml", [read_yaml(path)])
    assert [*config.finetune.tasks] == ["spleen"]


class Reader:
    """Somebody who follows the quickstart in a finished study."""

    def __init__(self, study: Study, data: Path) -> None:
        self.study, self.data = study, data
        # The environment of the tests takes the place of the one that `make environment` makes.
        (study.root / ".venv").mkdir()
        (study.root / ".venv/bin").symlink_to(preloaded())
        (study.root / ".venv/.ready").touch()
        editor = study.root.parent / "editor"
        editor.write_text(
            "#!/bin/sh\nsed -i 's/max_curve_points: 20/max_curve_points: 30/' \"$1\"\n"
        )
        editor.chmod(0o755)
        study.extra |= {"EDITOR": str(editor), "CORES": "2"}
        # The rows beyond the paper that the demo has, on the task that this study has.
        (study.root / "workflow/scales/beyond.yaml").write_text(
            "results: results/table5\nbeyond: {frozen: [nodule]}\n"
        )

    def write_overlay(self, page: str) -> None:
        """The page's own overlay, with the reader's data and a warm-up for the few steps here."""
        (text,) = re.findall(r"```yaml\n(scale: mine\n.*?)```", page, re.DOTALL)
        path = "/path/to/folder"
        assert path in text
        (self.study.root / "mine.yaml").write_text(
            re.sub(r"warmup_steps: \d+", "warmup_steps: 1", text.replace(path, str(self.data)))
        )

    def follow(self, command: str) -> str:
        """Type a line of the page into a shell."""
        return self.study.call("bash", "-c", command)


def write_data(folder: Path) -> Path:
    """CT series and spleens, as a reader may have them."""
    rng = np.random.default_rng(0)
    for number in range(4):
        voxels = rng.integers(0, 2000, (24, 24, 20))
        series = {"PatientID": f"p{number}", "SeriesInstanceUID": f"1.2.3.{number}"}
        trees.dicom_series(folder / f"dicom/p{number}", voxels, **series)
    trees.msd(folder, [f"spleen_{number}" for number in range(10)])
    return folder


@pytest.mark.slow
def test_the_quickstart_is_followed(study: Study, tmp_path: Path) -> None:
    """Block by block, in a study of the smallest size that has been done already."""
    page = ROOT / "docs/quickstart.md"
    reader = Reader(study, write_data(tmp_path / "data"))
    reader.write_overlay(page.read_text(encoding="utf-8"))
    said = {}
    for block in blocks(page):
        for command in block.commands if block.is_run else ():
            said[command] = reader.follow(command)
    assert "scale tiny: 14 of 14 jobs finished" in said["make reproduce"]
    assert "Table 5. " in said["make beyond"]
    assert (study.root / "results/mine/report/index.html").is_file()
    assert "results/mine" not in study.git("status", "--porcelain", "--ignored=no")
    assert "max_curve_points" in said["dvc params diff"]
    assert "pretrain/ours" in said["voxseq forget --yes pretrain/ours"]
    assert "1 finished" in said["voxseq plan --stage pretrain"]
    study.assert_nothing_to_do()
