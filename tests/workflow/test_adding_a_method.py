"""docs/adding-a-method.md, followed word by word in a copy of the checkout."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml


class Page:
    """The page's blocks, by what is said before them."""

    def __init__(self, text: str) -> None:
        self.text = text

    def file(self, name: str) -> str:
        """The block that the page gives for a file."""
        found = re.search(
            rf"`{re.escape(name)}`[^`]*:\n\n```python\n(.*?)```", self.text, re.DOTALL
        )
        assert found, f"the page has no block for {name}"
        return found[1]

    def block(self, first_words: str) -> str:
        """The block that begins with some words."""
        found = re.search(rf"```\w+\n({re.escape(first_words)}.*?)```", self.text, re.DOTALL)
        assert found, f"the page has no block that begins with {first_words}"
        return found[1]


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which the page has been followed."""
    copy = tmp_path_factory.mktemp("adding") / "voxseq"
    for part in ("src", "workflow", "profiles", "tests", "docs"):
        skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / part, copy / part, ignore=skip)
    for name in ("Snakefile", "params.yaml", "pyproject.toml"):
        shutil.copy(root / name, copy / name)
    page = Page((root / "docs/adding-a-method.md").read_text(encoding="utf-8"))
    for name in (
        "src/voxseq/pretrain/settings/denoising.py",
        "src/voxseq/pretrain/denoising.py",
        "tests/pretrain/test_denoising.py",
    ):
        (copy / name).write_text(page.file(name), encoding="utf-8")
    registry = copy / "src/voxseq/methods.py"
    text = registry.read_text(encoding="utf-8")
    place, line = '        Method(\n            "ours"', "from voxseq.pretrain.settings.base import"
    assert place in text
    assert line in text
    text = text.replace(place, page.block("Method(").rstrip() + ",\n" + place)
    text = text.replace(line, page.block("from voxseq.pretrain.settings.denoising") + line)
    registry.write_text(text, encoding="utf-8")
    params = yaml.safe_load((copy / "params.yaml").read_text(encoding="utf-8"))
    settings = yaml.safe_load(page.block("denoising:"))
    params["pretrain"]["methods"].update(settings)
    (copy / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    # The smoke scale with one source, one task and no method but the new one.
    study = yaml.safe_load((copy / "workflow/scales/smoke.yaml").read_text(encoding="utf-8"))
    study |= {"scale": "adding", "results": "results/adding"}
    study |= {"ablation": {"tasks": [], "variants!": {}}}
    study |= {"label_ratio": {"tasks": []}, "beyond!": {}}
    study["sequences"]["sources!"] = [{"dataset": "stoic", "kind": "spatial"}]
    study["pretrain"]["methods!"] = settings
    study["finetune"] |= {"seeds": [0], "scratch": ["vit"]}
    study["finetune"]["tasks!"] = {"nodule": params["finetune"]["tasks"]["nodule"]}
    (copy / "workflow/scales/adding.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return copy


def call(checkout: Path, *words: str) -> str:
    """Run a Python module in the copy, which takes the place of the installed package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("VOXSEQ_DATA", None)
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_method_is_part_of_the_plan(checkout: Path) -> None:
    planned = call(checkout, "voxseq", "plan", "--stage", "pretrain")
    assert "pretrain/denoising" in planned
    assert "pretrain/ours" in planned


@pytest.mark.slow
def test_its_test_passes(checkout: Path) -> None:
    assert "2 passed" in call(checkout, "pytest", "tests/pretrain/test_denoising.py")


@pytest.mark.slow
def test_code_is_formatted_and_typed(checkout: Path) -> None:
    written = [str(p.relative_to(checkout)) for p in checkout.rglob("*denoising.py")]
    assert len(written) == 3
    call(checkout, "ruff", "check", *written)
    call(checkout, "mypy", "src/voxseq/pretrain/denoising.py")


@pytest.mark.slow
def test_it_runs_from_data_to_its_row_in_the_tables(checkout: Path) -> None:
    overlay = "workflow/scales/adding.yaml"
    call(checkout, "snakemake", "--cores", "2", "--configfile", overlay, "--", "tables")
    with (checkout / "results/adding/tables/table2.csv").open(encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["row"] == "Denoising"]
    assert {row["status"] for row in rows if row["column"] != ""} == {"complete"}
    assert all(0.0 <= float(row["mean"]) <= 1.0 for row in rows)
