"""What git never takes: images and names of cases of a study of one's own, links to other disks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

#: What a study publishes; names of cases and slices are in the report and among the figures.
PUBLISHED = (
    "cost/cost.csv",
    "figures/figure2.png",
    "metrics.json",
    "plots/finetuning.csv",
    "report/cases.html",
    "tables/table1.csv",
)
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


@pytest.mark.parametrize("scale", ["mine", "smoke", "paper", "Tables", "open2", "demo", "2024_ct"])
def test_results_of_ones_own_scale_stay_out(checkout: Path, scale: str) -> None:
    write(checkout, *(f"results/{scale}/{name}" for name in PUBLISHED))
    assert added(checkout) == set()


def test_a_line_takes_a_scale_in(checkout: Path) -> None:
    with (checkout / ".gitignore").open("a") as handle:
        handle.write("!/results/mine/\n")
    write(checkout, "results/mine/tables/table1.csv", "results/other/tables/table1.csv")
    assert added(checkout) == {"results/mine/tables/table1.csv"}


def test_results_of_the_demo_are_in_it(checkout: Path) -> None:
    names = {f"results/{name}" for name in PUBLISHED}
    write(checkout, *names)
    assert added(checkout) == names


def test_results_of_the_open_scale_are_in_it_without_slices(checkout: Path) -> None:
    write(checkout, *(f"results/open/{name}" for name in (*PUBLISHED, *SLICES, "README.md")))
    expected = {f"results/open/{name}" for name in (*PUBLISHED, "README.md")}
    assert added(checkout) == expected - {f"results/open/{name}" for name in SLICES}


def test_nothing_under_version_control_is_ignored() -> None:
    words = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["artifacts", "data", "logs", ".voxseq", ".snakemake", ".venv"])
def test_folders_of_work_stay_out_as_links_too(checkout: Path, name: str) -> None:
    elsewhere = checkout.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (checkout / name).symlink_to(elsewhere)
    assert added(checkout) == set()
    (checkout / name).unlink()
    write(checkout, f"{name}/tiny/patient.txt")
    assert added(checkout) == set()


def test_pages_of_plots_stay_out_and_overlays_are_taken(checkout: Path) -> None:
    write(checkout, "dvc_plots/index.html", "studies/mine.yaml", "mine.yaml")
    assert added(checkout) == {"studies/mine.yaml", "mine.yaml"}
