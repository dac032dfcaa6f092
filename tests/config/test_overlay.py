"""`voxseq config use` writes what the two files say together, and keeps their comments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.config import merge, read_yaml
from voxseq.config.overlay import laid_over

BASE = """\
# The study.
scale: demo  # its name
results: results

# Where volumes come from.
data:
  root: null            # phantoms
  release: "1"          # a word

# How long.
pretrain:
  steps: 1e+1           # few
  methods: {ours: {optimiser: {lr: 1.0e-3, warmup_steps: 50}}, mae3d: {crop_shape: [8, 8, 8]}}
"""
OVERLAY = """\
# Another size.
scale: mine
data: {split_seed: 3}
pretrain:
  seed: 4               # [P] a seed
  methods:
    ours: {optimiser: {lr: 0.5}}       # [P] a rate
    mae3d!: {mask_ratio: 0.5}
finetune:
  tasks!: {la: {data!: {scale: 2}}}
"""


def used(folder: Path, base: str, overlay: str) -> str:
    paths = folder / "params.yaml", folder / "mine.yaml"
    for path, text in zip(paths, (base, overlay), strict=True):
        path.write_text(text, encoding="utf-8")
    text = laid_over(*paths)
    expected = merge(read_yaml(paths[0]), read_yaml(paths[1]))
    paths[0].write_text(text, encoding="utf-8")
    assert read_yaml(paths[0]) == expected
    return text


def test_comments_stay_beside_their_keys(tmp_path: Path) -> None:
    lines = used(tmp_path, BASE, OVERLAY).splitlines()
    assert lines[0] == "# The study."
    assert "scale: mine  # its name" in lines
    assert "  root: null            # phantoms" in lines
    assert '  release: "1"          # a word' in lines
    assert "  steps: 1e+1           # few" in lines
    assert lines[lines.index("data:") - 1] == "# Where volumes come from."
    assert lines[lines.index("pretrain:") - 1] == "# How long."


def test_what_is_replaced_takes_its_comments_along(tmp_path: Path) -> None:
    text = used(tmp_path, BASE, '"data!":\n  root: there  # real\n"pretrain!": {steps: 3}\n')
    assert "# real" in text
    assert "# phantoms" not in text
    assert "# few" not in text


@pytest.mark.parametrize("scale", ["smoke", "open", "paper"])
def test_scales_of_the_repository_keep_the_comments_of_params(tmp_path: Path, scale: str) -> None:
    base = (ROOT / "params.yaml").read_text(encoding="utf-8")
    overlay = (ROOT / f"workflow/scales/{scale}.yaml").read_text(encoding="utf-8")
    text = used(tmp_path, base, overlay)
    schema, title, *_ = text.splitlines()
    assert schema == "# yaml-language-server: $schema=docs/params.schema.json"
    assert title.startswith("# The embedded demo")
    assert "# null: phantoms are generated" in text
    assert not any(line != line.rstrip() for line in text.splitlines())
    used(tmp_path, text, overlay)


@pytest.mark.parametrize("overlay", ["", "# nothing\n", "{}\n"])
def test_an_empty_overlay_changes_no_word(tmp_path: Path, overlay: str) -> None:
    assert used(tmp_path, BASE, overlay) == BASE


def test_a_file_without_comments_or_order_is_laid_over_all_the_same(tmp_path: Path) -> None:
    used(tmp_path, "a: 1\n", "a: {b: [1, {c: yes}]}\nx: '010'\ny: \"\\ud83e\\udec0\"\n")
    used(tmp_path, "a: {b: 1}\n", '"a!": 2\n')
