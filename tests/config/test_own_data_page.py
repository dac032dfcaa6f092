"""docs/own-data.md: every example is a valid configuration, and every option is described."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML

from tests.helpers import ROOT
from voxseq.catalogue.model import ALWAYS, FURTHER, LAYOUTS
from voxseq.config.datasets import DataConfig

PAGE = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: Layouts of own data, which no data set of the catalogue needs.
OWN = ("files", "nnunet", "msd", "bids", "table", "medmnist")


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_valid(text: str) -> None:
    data = DataConfig.model_validate(YAML(typ="safe").load(text)["data"])
    for name, row in data.sets.items():
        assert data.dataset(name) is row


def test_every_layout_has_an_example_and_every_option_a_line() -> None:
    shown = {
        row["layout"]
        for text in EXAMPLES
        for row in YAML(typ="safe").load(text)["data"]["sets"].values()
    }
    assert shown == {*OWN}
    # Of all layouts, contrasts and spacing are for published data sets.
    wanted = {*ALWAYS} - {"contrasts", "spacing"}
    for layout in OWN:
        wanted |= {*LAYOUTS[layout], *FURTHER.get(layout, ())}
    described = {word for cell in re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
                 for word in re.findall(r"`(\w+)`", cell)}  # fmt: skip
    assert wanted - {"file"} <= described
