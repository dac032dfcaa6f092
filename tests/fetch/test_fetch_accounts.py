"""Sets behind accounts: the official clients do the work, and nobody sees a credential."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.helpers import trees
from tests.helpers.packing import HASTY, contents, dataset, zipped
from voxseq import catalogue
from voxseq.catalogue import DataSet
from voxseq.data import layouts as adapters
from voxseq.fetch import AccountNeededError, fetch, read_record

SECRET = "token-0123456789"  # noqa: S105
STEPS = ("Make an account.", "Accept the rules.")


def kaggle_row() -> DataSet:
    return dataset([], "rsna2022_csfd", client=("kaggle:spines",), steps=STEPS)


def install(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    for key, value in attributes.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


class Kaggle:
    """As much of the client as is used."""

    def __init__(self, action: Callable[[Path], None]) -> None:
        self.action = action
        self.calls: list[str] = []

    def authenticate(self) -> None:
        self.calls.append("authenticate")

    def competition_download_files(self, name: str, path: str, force: bool, quiet: bool) -> None:
        self.calls.append(name)
        self.action(Path(path))


def slices(folder: Path) -> dict[str, bytes]:
    trees.dicom_series(folder / "train_images" / "1.2.3", trees.image((6, 5, 3)))
    return contents(folder)


def test_kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packed = zipped({**slices(tmp_path / "made"), "train.csv": b"x"})
    client = Kaggle(lambda folder: (folder / "spines.zip").write_bytes(packed) and None)
    install(monkeypatch, "kaggle", api=client)
    row = kaggle_row()
    outcome = fetch(row, tmp_path / "root", patience=HASTY)
    assert client.calls == ["authenticate", "spines"]
    entries = adapters.get(row.layout).scan(tmp_path / "root" / row.folder, row).entries
    assert [entry.path for entry in entries] == ["train_images/1.2.3"]
    assert outcome.record is not None
    (item,) = outcome.record.fetched
    assert (item.url, item.vouched, item.files) == ("kaggle:spines", "client", 4)
    assert not outcome.unvouched
    assert fetch(row, tmp_path / "root").state == "complete"
    assert client.calls == ["authenticate", "spines"]


def test_synapse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    subject = "BraTS-GLI-00000-000"
    parts = ("GLI-Challenge-TrainingData", "GLI-Challenge-ValidationData")
    made = {part: {f"{subject[:-1]}{n}/x.nii.gz": b"1"} for n, part in enumerate(parts)}

    class Synapse:
        def login(self, silent: bool) -> None:
            pass

    def sync(session: Synapse, entity: str, path: str) -> None:
        (Path(path) / "SYNAPSE_METADATA_MANIFEST.tsv").write_text(entity)
        for part, files in made.items():
            # One archive holds its own folder, the other does not.
            inside = {f"{part}/{n}": c for n, c in files.items()} if "Train" in part else files
            (Path(path) / f"{part}.zip").write_bytes(zipped(inside))
        (Path(path) / "table.csv").write_text("same everywhere")

    install(monkeypatch, "synapseclient", Synapse=Synapse)
    install(monkeypatch, "synapseutils", syncFromSynapse=sync)
    row = dataset([], "brats23", client=("synapse:syn1",), steps=STEPS)
    fetch(row, tmp_path, patience=HASTY)
    found = contents(tmp_path / "brats")
    del found[".voxseq-fetch.json"]
    assert found == {
        "GLI-Challenge-TrainingData/BraTS-GLI-00000-000/x.nii.gz": b"1",
        "GLI-Challenge-ValidationData/BraTS-GLI-00000-001/x.nii.gz": b"1",
        "table.csv": b"same everywhere",
    }


@pytest.mark.parametrize("name", ["rsna2022_csfd", "rsna2020_ped", "brats23"])
def test_a_client_that_is_not_installed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for package in ("kaggle", "synapseclient"):
        monkeypatch.setitem(sys.modules, package, None)
    row = catalogue.get(name)
    with pytest.raises(AccountNeededError, match="is not installed") as error:
        fetch(row, tmp_path)
    assert 'pip install -e ".[accounts]"' in error.value.hint
    assert all(step in error.value.hint for step in row.steps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["flare23", "tcia_covid19", "dicom_ct"])
def test_what_is_obtained_by_hand(name: str, tmp_path: Path) -> None:
    row = catalogue.get(name)
    with pytest.raises(AccountNeededError, match="by hand") as error:
        fetch(row, tmp_path)
    assert all(step in error.value.hint for step in row.steps)


class RefusedError(Exception):
    status = 403


@pytest.mark.parametrize("error", [RefusedError(SECRET), SystemExit(1), OSError(SECRET)])
def test_a_client_that_is_refused(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.zip").write_bytes(b"half")
        raise error

    install(monkeypatch, "kaggle", api=Kaggle(fail))
    with pytest.raises(AccountNeededError, match="the client gave up on kaggle:spines") as caught:
        fetch(kaggle_row(), tmp_path, patience=HASTY)
    assert SECRET not in str(caught.value)
    assert "Accept the rules." in caught.value.hint
    assert not (tmp_path / "rsna2022_csfd").exists()
    # With the rules accepted the client goes on with what it has.
    packed = zipped({"train.csv": b"x"})

    def succeed(folder: Path) -> None:
        assert (folder / "half.zip").read_bytes() == b"half"
        (folder / "half.zip").write_bytes(packed)

    install(monkeypatch, "kaggle", api=Kaggle(succeed))
    fetch(kaggle_row(), tmp_path, patience=HASTY)
    assert read_record(tmp_path / "rsna2022_csfd") is not None


def test_a_client_that_ends_the_process_when_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As kaggle does where it finds no credentials."""
    (tmp_path / "kaggle.py").write_text("raise SystemExit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kaggle", raising=False)
    with pytest.raises(AccountNeededError, match="gave up on kaggle"):
        fetch(kaggle_row(), tmp_path / "root")


def test_a_client_that_fetches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, "kaggle", api=Kaggle(lambda folder: None))
    with pytest.raises(Exception, match="the client fetched no file"):
        fetch(kaggle_row(), tmp_path, patience=HASTY)
    assert not (tmp_path / "rsna2022_csfd").exists()
