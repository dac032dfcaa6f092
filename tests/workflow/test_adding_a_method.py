"""docs/adding-a-method.md, followed word by word in a copy of the checkout."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.helpers.preloaded import preloaded
from voxseq.config.overlay import merge

pytestmark = pytest.mark.slow

#: Of `make test-fast`: the tests that look at every method, every scale and the documents.
FAST = (
    *("tests/estimate/test_count.py", "tests/config/test_document.py"),
    *("tests/config/test_scales.py", "tests/plan/test_plan.py", "tests/plan/test_code_versions.py"),
)


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
        "src/voxseq/config/methods/denoising.py",
        "src/voxseq/pretrain/methods/denoising.py",
        "tests/pretrain/test_denoising.py",
    ):
        (copy / name).write_text(page.file(name), encoding="utf-8")
    registry = copy / "src/voxseq/config/registry.py"
    text = registry.read_text(encoding="utf-8")
    place, line = '        Method(\n            "ours"', "from voxseq.config.methods.dino import"
    assert place in text
    assert line in text
    row = textwrap.indent(page.block("Method(").rstrip() + ",\n", " " * 8)
    text = text.replace(place, row + place)
    text = text.replace(line, page.block("from voxseq.config.methods.denoising") + line)
    registry.write_text(text, encoding="utf-8")
    settings = yaml.safe_load(page.block("denoising:"))
    few_steps = page.block("denoising: {")
    blocks = {"params.yaml": page.block("denoising:"), "workflow/scales/smoke.yaml": few_steps}
    for name, added in blocks.items():
        text = (copy / name).read_text(encoding="utf-8")
        place = (
            "pretrain:\n" + text.split("\npretrain:\n")[1].split("  methods:\n")[0] + "  methods:\n"
        )
        block = textwrap.indent(added, " " * 4)
        (copy / name).write_text(text.replace(place, place + block), encoding="utf-8")
    params = yaml.safe_load((copy / "params.yaml").read_text(encoding="utf-8"))
    assert settings.items() <= params["pretrain"]["methods"].items()
    # The smoke scale with one source, one task and no method but the new one.
    study = yaml.safe_load((copy / "workflow/scales/smoke.yaml").read_text(encoding="utf-8"))
    study |= {"scale": "adding", "results": "results/adding", "seeds": 1}
    study |= {"ablation": {"tasks": [], "variants!": {}}}
    study |= {"label_ratio": {"tasks": []}, "beyond!": {}}
    study["sequences"]["sources!"] = [{"dataset": "stoic", "kind": "spatial"}]
    study["pretrain"]["methods!"] = merge(settings, yaml.safe_load(few_steps))
    study["finetune"] |= {"scratch": ["vit"]}
    study["finetune"]["tasks!"] = {"nodule": params["finetune"]["tasks"]["nodule"]}
    (copy / "adding.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return copy


def attempt(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the copy, which takes the place of the installed package."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "PATH": os.pathsep.join(
            (str(preloaded()), str(Path(sys.executable).parent), os.environ["PATH"])
        ),
    }
    environment.pop("VOXSEQ_DATA", None)
    return subprocess.run(
        ["python", "-m", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def call(checkout: Path, *words: str) -> str:
    """Run a Python module there; it has to succeed."""
    done = attempt(checkout, *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def said(root: Path, checkout: Path) -> dict[str, str]:
    """What each command of voxseq says with which the page ends."""
    page = Page((root / "docs/adding-a-method.md").read_text(encoding="utf-8"))
    lines = page.block("voxseq config docs").splitlines()
    assert lines.pop() == "make lint && make test-fast"
    return {line: call(checkout, *line.split()) for line in lines}


def test_the_method_is_part_of_the_plan(said: dict[str, str]) -> None:
    planned = said["voxseq plan --stage pretrain"]
    assert "pretrain/denoising/s0" in planned
    assert "pretrain/ours/s0" in planned


def test_its_cost_is_counted(checkout: Path, said: dict[str, str]) -> None:
    def operations(printed: str, method: str) -> float:
        """GFLOP of an item, of which the star of a stand-in would take the place."""
        (row,) = (r.split() for r in printed.splitlines() if r.startswith(f"pretrain/{method}/s0 "))
        return float(row[1].replace(",", ""))

    counted = said["voxseq plan --scale demo"]
    # All tokens pass the encoder; a masked autoencoder encodes a quarter of them.
    assert operations(counted, "denoising") > operations(counted, "mae3d")
    # The paper's study has the paper's methods.
    assert "denoising" not in call(checkout, "voxseq", "plan", "--scale", "paper")
    assert operations(call(checkout, "voxseq", "plan", "--scale", "smoke"), "denoising") > 0


def test_the_record_of_code_is_as_the_page_leaves_it(checkout: Path, said: dict[str, str]) -> None:
    assert "voxseq code keep pretrain scores tables figures" in said
    call(checkout, "voxseq", "code", "check")


def test_the_tests_that_the_page_asks_for_pass(checkout: Path, said: dict[str, str]) -> None:
    """And its own, in the same process."""
    own, fast = "tests/pretrain/test_denoising.py", "not slow and not faults"
    printed = call(checkout, "pytest", "-rpfE", own, *FAST, "-m", fast)
    passed = [line for line in printed.splitlines() if line.startswith("PASSED ")]
    assert len([line for line in passed if own in line]) == 2
    for name in FAST:
        assert any(name in line for line in passed), name


def test_code_is_formatted_and_typed(checkout: Path) -> None:
    written = [str(p.relative_to(checkout)) for p in checkout.rglob("*denoising.py")]
    assert len(written) == 3
    written.append("src/voxseq/config/registry.py")
    call(checkout, "ruff", "check", *written)
    call(checkout, "ruff", "format", "--check", *written)
    call(checkout, "mypy", "src/voxseq/pretrain/methods/denoising.py")


def test_it_runs_from_data_to_its_row_in_the_tables(checkout: Path) -> None:
    overlay = "adding.yaml"
    call(checkout, "snakemake", "--cores", "2", "--configfile", overlay, "--", "tables")
    with (checkout / "results/adding/tables/table2.csv").open(encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["row"] == "Denoising"]
    assert {row["status"] for row in rows if row["column"] != ""} == {"complete"}
    assert all(0.0 <= float(row["mean"]) <= 1.0 for row in rows)
