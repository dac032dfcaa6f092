"""The tutorial of own studies, followed word by word at the smallest size."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers import ROOT, own_images
from tests.helpers.pages import without_remark
from tests.helpers.preloaded import preloaded

PAGE = ROOT / "docs/own-study.md"
#: What `voxseq init` would choose for a machine that has more time than a test.
SMALLEST = {"VOXSEQ_PRESET": "tiny", "VOXSEQ_STEPS": "4", "VOXSEQ_SEEDS": "1"}
_SECTION = re.compile(r"^## (?P<title>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_COMMANDS = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """One of the page's studies.

    Attributes:
        images: writes the images that it is about.
        place: where they are, below the user's home.
        name: of the study.
        results: files that the commands leave in the workspace; a star stands for anything.
    """

    images: Callable[[Path], None]
    place: str
    name: str
    results: tuple[str, ...]


ENCODER = "artifacts/{name}/pretrain/ours/s0/encoder.safetensors"
MODEL = "artifacts/{name}/finetune/{name}/ours/s0/model.safetensors"
SECTIONS = {
    "CT scans without labels": Section(
        own_images.scans, "scans", "scans", (ENCODER, "features.npz")
    ),
    "nnU-Net raw data": Section(
        own_images.nnunet,
        "nnUNet_raw/Dataset042_Kidneys",
        "kidneys",
        (ENCODER, MODEL, "results/{name}/tables/table1.md", "masks/case8*", "masks/case9*"),
    ),
    "A table of classes": Section(
        own_images.tables,
        "knees",
        "knees",
        (ENCODER, MODEL, "results/{name}/tables/table2.md", "grades/*.csv"),
    ),
    "A table of numbers": Section(
        own_images.tables, "knees", "age", (ENCODER, MODEL, "results/{name}/tables/*", "ages/*.csv")
    ),
    "DICOM series": Section(own_images.dicom, "dicom", "archive", (ENCODER,)),
    "The layout of the Decathlon": Section(
        own_images.decathlon,
        "Task99_Liver",
        "liver",
        (ENCODER, MODEL, "results/{name}/tables/table1.md", "livers/liver8*"),
    ),
}


def commands(title: str) -> list[str]:
    """The shell commands of a section, in order."""
    texts = {found["title"]: found["text"] for found in _SECTION.finditer(PAGE.read_text())}
    lines = (line for block in _COMMANDS.findall(texts[title]) for line in block.splitlines())
    return [line for line in map(without_remark, lines) if line]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A clone of the repository, as far as the commands need it."""
    folder = tmp_path / "voxseq"
    folder.mkdir()
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "params.yaml", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "src").symlink_to(ROOT / "src")
    return folder


def test_every_section_with_commands_is_followed() -> None:
    found = {
        match["title"]
        for match in _SECTION.finditer(PAGE.read_text())
        if _COMMANDS.search(match["text"])
    }
    assert found == set(SECTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_is_followed(workspace: Path, tmp_path: Path, title: str) -> None:
    section, home = SECTIONS[title], tmp_path / "home"
    section.images(home / section.place)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("VOXSEQ_")}
    search = f"{preloaded()}{os.pathsep}{kept['PATH']}"
    environment = {**kept, **SMALLEST, "HOME": str(home), "PATH": search, "PYTHONPATH": "src"}
    for line in commands(title):
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-6000:]}"
    for result in section.results:
        assert [*workspace.glob(result.format(name=section.name))], result
    assert ignored(workspace)


def ignored(workspace: Path) -> bool:
    """Whether git would take nothing that names a user's folders and cases."""
    subprocess.run(["git", "init", "--quiet", "."], cwd=workspace, check=True)
    words = ["git", "add", "--all", "--dry-run", "studies", "results", "artifacts", "logs"]
    said = subprocess.run(words, cwd=workspace, capture_output=True, text=True, check=False)
    return not [line for line in said.stdout.splitlines() if line.startswith("add ")]
