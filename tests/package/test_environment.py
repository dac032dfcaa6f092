"""`make environment`: announces its download, and takes everything from where pip is told to."""

from __future__ import annotations

import ensurepip
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers import ROOT

SCRIPT = ROOT / "scripts/environment.py"
#: A package of one module, whose build needs nothing.
PROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """\
import shutil
def build_editable(folder, config_settings=None, metadata_directory=None):
    return shutil.copy("wheels/itself-1-py3-none-any.whl", folder).rsplit("/", 1)[1]
"""


def wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as packed:
        packed.writestr(f"{name}.py", f"version = {version!r}\n")
        packed.writestr(f"{info}/METADATA", metadata)
        packed.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{info}/RECORD", "")


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    tuple(map(int, ensurepip.version().split(".")[:2])) < (23, 2),
    reason="the pip of this Python does not tell beforehand what it would install",
)
@pytest.mark.slow
def test_wheels_of_pips_own_configuration_are_enough(tmp_path: Path) -> None:
    """No index can be reached: everything comes from a folder that pip.conf names."""
    checkout, wheels = tmp_path / "checkout", tmp_path / "checkout/wheels"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / "scripts")
    shutil.copy(ROOT / "Makefile", checkout)
    wheel(wheels, "torch", "9.1", "Requires-Dist: nvidia-cudnn\n")
    wheel(wheels, "itself", "1")
    wheel(wheels, "nvidia_cudnn", "1")
    (checkout / "requirements.lock").write_text("# pinned\nnvidia-cudnn==1\ntorch==9.1\n")
    (checkout / "pyproject.toml").write_text(PROJECT)
    (checkout / "backend.py").write_text(BACKEND)
    (tmp_path / "pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON", "MAKE"))}
    done = subprocess.run(
        ["make", "environment", f"PYTHON={sys.executable}"],
        cwd=checkout,
        env={
            **kept,
            "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
            # This machine's own configuration plays no part.
            "XDG_CONFIG_DIRS": str(tmp_path),
            "HOME": str(tmp_path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    said = done.stdout
    assert said.index("PyTorch 9.1: a CUDA build") < said.index("pip install")
    assert "TORCH=cpu" in said
    code = "import itself, torch; print(torch.version)"
    python = checkout / ".venv/bin/python"
    assert subprocess.check_output([python, "-c", code], text=True) == "9.1\n"


def build(*needs: str) -> dict[str, Any]:
    return {
        "metadata": {"version": "9.1", "requires_dist": [*needs]},
        "download_info": {"url": "https://mirror/simple/torch-9.1.whl"},
    }


@pytest.mark.parametrize(
    ("system", "found", "said", "is_choice"),
    [
        ("linux", build("nvidia-cudnn-cu13==9"), "a CUDA build, some 3 GB", True),
        ("linux", build("numpy"), "a CPU build, from https://mirror/simple", False),
        ("darwin", build("nvidia-cudnn-cu13==9"), "the build for macOS", False),
        ("linux", None, "pip does not say beforehand", True),
    ],
    ids=["cuda", "cpu", "macos", "unknown"],
)
def test_the_build_of_pytorch_is_named(
    monkeypatch: pytest.MonkeyPatch,
    script: ModuleType,
    system: str,
    found: dict[str, Any] | None,
    said: str,
    is_choice: bool,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    text = script.said_of_torch(found)
    assert said in text
    assert ("TORCH=cpu" in text) == is_choice


@pytest.mark.parametrize(
    ("version", "system", "status", "said"),
    [
        ((3, 10, 13), "linux", 2, "older than Python 3.11"),
        ((3, 12, 1), "win32", 2, "WSL 2"),
        ((3, 14, 0), "darwin", 0, ""),
    ],
    ids=["old", "windows", "macos"],
)
def test_what_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: ModuleType,
    version: tuple[int, int, int],
    system: str,
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(sys, "platform", system)
    assert script.check() == status
    out = capsys.readouterr().out
    assert said in out
    assert ("next: " in out) == bool(status)


def test_the_lock_is_read(script: ModuleType) -> None:
    pins = script.pins(ROOT / "requirements.lock")
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert len(pins) == sum("==" in line for line in lines)
    assert "torch" in pins


@pytest.mark.parametrize("choice", ["", "cpu"])
def test_the_cpu_build_is_a_choice(choice: str) -> None:
    said = subprocess.check_output(
        ["make", "--dry-run", "--always-make", "environment", f"TORCH={choice}"],
        cwd=ROOT,
        text=True,
    )
    installs = [line for line in said.splitlines() if "-r requirements.lock" in line]
    assert ["download.pytorch.org/whl/cpu" in line for line in installs] == [choice == "cpu"]
