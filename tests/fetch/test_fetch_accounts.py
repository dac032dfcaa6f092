"""Data sets that only the user can obtain: the steps are told, and nothing is begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxseq import catalogue
from voxseq.fetch import AccountNeededError, fetch


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((n, "only the official client") for n in ("rsna2022_csfd", "rsna2020_ped", "brats23")),
        *((n, "by hand") for n in ("flare23", "tcia_covid19", "dicom_ct")),
    ],
)
def test_the_steps_are_told(name: str, reason: str, tmp_path: Path) -> None:
    row = catalogue.get(name)
    with pytest.raises(AccountNeededError, match=reason) as error:
        fetch(row, tmp_path)
    assert all(step in error.value.hint for step in row.steps)
    if row.client:
        assert 'pip install -e ".[accounts]"' in error.value.hint
        kinds = {client.partition(":")[0] for client in row.client}
        assert all(f"{kind} " in error.value.hint for kind in kinds)
    assert not list(tmp_path.iterdir())
