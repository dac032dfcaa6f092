"""Containers: one list of steps, and the files that the build needs reach it."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from tests.helpers import ROOT
from voxseq import __version__

STEPS = "container.sh"


@pytest.mark.parametrize("recipe", ["Dockerfile", "apptainer.def"])
def test_recipes_share_their_steps(recipe: str) -> None:
    text = (ROOT / recipe).read_text()
    calls = re.findall(r"^ *(?:RUN )?sh \S+/container\.sh (\w+) (.*)$", text, re.MULTILINE)
    assert [verb for verb, _ in calls] == ["build", "run"]
    assert all("/opt/voxseq" in words for _, words in calls)
    assert "apt-get" not in text
    assert __version__ in text


def test_everything_that_the_wheel_is_made_of_reaches_the_builder() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        *project["project"]["license-files"],
        project["project"]["readme"],
        *("pyproject.toml", "requirements.lock", "scripts/environment.py", f"scripts/{STEPS}"),
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in sent)
    missing = [n for n in needed if not any(n == s or n.startswith(f"{s}/") for s in sent)]
    assert not missing


def test_wrong_words_end_in_usage() -> None:
    done = subprocess.run(
        ["sh", ROOT / "scripts" / STEPS, "paint"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "scripts/container.sh",
        "workflow/scripts/remote.sh",
        "tests/package/run.sh",
        "tests/package/container.sh",
    ],
)
def test_scripts_are_sound(script: str) -> None:
    shell = "sh" if script.startswith("scripts") else "bash"
    subprocess.run([shell, "-n", ROOT / script], check=True)
    assert (ROOT / script).stat().st_mode & 0o111


def test_conda_takes_the_versions_of_the_lock() -> None:
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (one["pip"] for one in content["dependencies"] if isinstance(one, dict))
    assert pip == ["-r requirements.lock", "-e ."]
    assert (ROOT / pip[0].split()[1]).is_file()
