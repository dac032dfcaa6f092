"""What git never takes: images and names of cases of a study of one's own, links to other disks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.helpers import ROOT

#: What a study publishes and two calls make alike; names of cases and slices are in the report and
#: among the figures.
PUBLISHED = (
    "figures/figure2.png",
    "metrics.json",
    "plots/finetuning.csv",
    "report/cases.html",
    "scores/seed-0.json",
    "tables/table1.csv",
)
#: Seconds and memory differ from call to call.
COST = ("cost/cost.csv", "cost/index.html")
SLICES = ("figures/figure1.png", "figures/figure2.png", "report/index.html", "report/cases.html")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the ignore file alone."""
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def added(checkout: Path) -> set[str]:
    """Files that ``git add --all`` would take."""
    words = ["git", "add", "--all", "--dry-run", "--verbose"]
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True)
    return {line.split("'")[1] for line in done.stdout.splitlines()} - {".gitignore"}


def write(checkout: Path, *names: str) -> None:
    for name in names:
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def below(folder: str, names: Iterable[str]) -> set[str]:
    return {f"{folder}/{name}" for name in names}


OPEN = below("results/open", (*PUBLISHED, "README.md"))
OWN = ("mine", "smoke", "quick", "paper", "Tables", "open2", "demo", "2024_ct")


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        *((below(f"results/{scale}", PUBLISHED), set()) for scale in OWN),
        *(
            (below(folder, (*PUBLISHED, *COST)), below(folder, PUBLISHED))
            for folder in ("results", "results/study", "results/table5")
        ),
        ({"results/README.md"}, {"results/README.md"}),
        # The open scale's without slices.
        (OPEN | below("results/open", (*SLICES, *COST)), OPEN - below("results/open", SLICES)),
        ({"dvc_plots/index.html"}, set()),
        ({"studies/mine.yaml", "mine.yaml"}, {"mine.yaml"}),
        ({"masks/case1.nii.gz", "masks_2/case1.nii.gz", "grades/predictions.csv"}, set()),
    ],
)
def test_results_of_ones_own_scales_stay_out(
    checkout: Path, written: set[str], taken: set[str]
) -> None:
    write(checkout, *written)
    assert added(checkout) == taken


def test_a_line_takes_a_scale_in(checkout: Path) -> None:
    with (checkout / ".gitignore").open("a") as handle:
        handle.write("!/results/mine/\n!/studies/mine.yaml\n")
    kept = {"results/mine/tables/table1.csv", "studies/mine.yaml"}
    write(checkout, *kept, "results/other/tables/table1.csv", "studies/other.yaml")
    assert added(checkout) == kept


def test_nothing_under_version_control_is_ignored() -> None:
    words = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["artifacts", "data", "logs", ".voxseq", ".snakemake", ".venv"])
def test_folders_of_work_stay_out_as_links_too(checkout: Path, name: str) -> None:
    (checkout / name).symlink_to(ROOT)
    assert added(checkout) == set()
    (checkout / name).unlink()
    write(checkout, f"{name}/tiny/patient.txt")
    assert added(checkout) == set()
