"""What an import of the package costs, and that every library that it imports is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted((ROOT / "src/voxseq").rglob("*.py"))


def modules_after(code: str) -> set[str]:
    """Top names of the modules that are there after some code, in a new interpreter."""
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {name.partition(".")[0] for name in said.split()}


def test_the_package_loads_nothing_but_the_standard_library() -> None:
    found = modules_after("import voxseq; voxseq.__version__; dir(voxseq)")
    before = modules_after("")
    assert found - before - set(sys.stdlib_module_names) == {"voxseq"}


def test_help_loads_no_heavy_library() -> None:
    found = modules_after("from voxseq.cli.main import cli")
    assert not found & {"torch", "monai", "pandas", "numpy", "scipy", "matplotlib", "snakemake"}
    assert "click" in found


def declared() -> set[str]:
    """Libraries in pyproject.toml, extras included, and their own parts, as pip spells them."""
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    named = {name_in(line) for line in lines}
    # Pydantic's core and Jinja's markup are parts of these.
    parts = [line for name in ("pydantic", "jinja2") for line in metadata.requires(name) or ()]
    return named | {name_in(line) for line in parts}


def name_in(requirement: str) -> str:
    return normal(re.split(r"[\[<>=~! ;]", requirement)[0])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, Path]:
    """Top name of each module of others → one file that imports it."""
    found: dict[str, Path] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            found |= {name.partition(".")[0]: path for name in names}
    ours = {"voxseq", "steps", "predict"}
    return {n: p for n, p in found.items() if n not in sys.stdlib_module_names and n not in ours}


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(imported()))
def test_every_library_is_declared(module: str) -> None:
    owners = {normal(name) for name in metadata.packages_distributions().get(module, [module])}
    assert owners & declared(), f"{imported()[module]} imports {module}, which nothing declares"


def test_one_version_is_named_everywhere() -> None:
    import yaml

    from voxseq import __version__

    assert PROJECT["version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    pod = yaml.safe_load((ROOT / "profiles/kubernetes/job.yaml").read_text())
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"voxseq:{__version__}"
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
