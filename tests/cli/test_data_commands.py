"""``voxseq data list`` and ``show``: what they tell, on trees with some sets present."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.helpers import trees
from voxseq.catalogue import CATALOGUE, lists
from voxseq.cli import main as cli
from voxseq.cli.options import resolve_root
from voxseq.data.verify.presence import look


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder as the current one, and no data root in the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VOXSEQ_DATA", raising=False)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Two spleens, a complete RibFrac by name, an LA without its lists."""
    folder = tmp_path / "data"
    trees.msd(folder, ["spleen_2", "spleen_3"])
    trees.la(folder, ["A" * 20, "B" * 20], ["C" * 20])
    shutil.rmtree(folder / "la" / "2018LA_Seg_Training Set" / ("B" * 20))
    for number in range(1, 661):
        path = folder / "ribfrac" / "Part1" / f"RibFrac{number}-image.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "stoic").mkdir()
    (folder / "amos22").mkdir()
    (folder / "amos22" / "._amos_0001.nii.gz").touch()
    (folder / "nodule").mkdir()
    (folder / "nodule" / "nodulemnist3d.npz").write_bytes(b"no archive")
    return folder


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, ["data", *map(str, words)], catch_exceptions=True)


def states(output: str) -> dict[str, str]:
    """Last column of the table, by the name of the data set."""
    rows = {line.split()[0]: line for line in output.splitlines() if line.split()}
    return {name: rows[name].rstrip().rsplit("  ", 1)[-1].strip() for name in CATALOGUE}


def test_list_works_without_any_data() -> None:
    result = call("list")
    assert result.exit_code == 0
    assert set(states(result.output).values()) == {"absent"}
    assert "no data root" in result.output
    assert "28.9 GB" in result.output


def test_list_says_what_is_here(data_root: Path) -> None:
    result = call("list", "--root", data_root)
    assert result.exit_code == 0, result.output
    found = states(result.output)
    assert found["task09_spleen"] == "incomplete, 2 of 41"
    assert found["ribfrac"] == "present, 660"
    assert found["la"] == "incomplete, 2 of 100"
    assert found["nodule"] == "incomplete, 0 of 1633"
    # Empty folders and files that operating systems leave are no data set.
    assert found["stoic"] == found["amos22"] == found["flare22"] == "absent"
    assert "la: 1 images that its lists name are missing" in result.output
    assert "nodule: nodulemnist3d.npz: damaged" in result.output


def test_list_without_counting_opens_no_file(data_root: Path) -> None:
    result = call("list", "--root", data_root, "--no-count")
    assert result.exit_code == 0
    found = states(result.output)
    assert found["nodule"] == found["ribfrac"] == "some files"
    assert found["amos22"] == "absent"


def test_list_of_a_data_root_that_does_not_exist() -> None:
    result = call("list", "--root", "nowhere")
    assert result.exit_code == 0
    assert "nowhere does not exist" in result.output


def test_root_comes_from_option_environment_then_configuration(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = root / "params.yaml"
    overlay = tmp_path / "o.yaml"
    overlay.write_text(f"data: {{root: {tmp_path / 'configured'}}}\n")
    assert resolve_root(None, params, (overlay,)) == tmp_path / "configured"
    monkeypatch.setenv("VOXSEQ_DATA", str(tmp_path / "environment"))
    assert resolve_root(None, params, (overlay,)) == tmp_path / "environment"
    assert resolve_root(tmp_path / "option", params, (overlay,)) == tmp_path / "option"
    monkeypatch.delenv("VOXSEQ_DATA")
    assert resolve_root(None, Path("none.yaml"), ()) is None


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_show_tells_every_fact_and_what_is_unconfirmed(name: str) -> None:
    row = CATALOGUE[name]
    result = call("show", name)
    assert result.exit_code == 0, result.output
    for fact in (row.title, row.folder, row.licence, row.source, ", ".join(row.paths), row.note):
        assert fact in result.output
    for text in (*row.steps, *row.unconfirmed):
        assert text in result.output
    assert ("unconfirmed: no source settles these" in result.output) == bool(row.unconfirmed)
    assert f"voxseq data verify {name}" in result.output
    assert (f"voxseq data download {name}" in result.output) == bool(row.files or row.client)


def test_show_reports_counts_that_differ_from_the_paper(data_root: Path) -> None:
    assert "63 (paper: 64)" in call("show", "task06_lung").output
    spleen = call("show", "task09_spleen", "--root", data_root).output
    assert "2 of 41 published images are there" in spleen
    assert str(data_root / "msd/Task09_Spleen") in spleen


def test_show_of_an_unknown_name_suggests_the_near_miss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["voxseq", "data", "show", "verse"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "did you mean 'verse20'?" in capsys.readouterr().err


def test_a_complete_set_by_its_lists_is_present(tmp_path: Path) -> None:
    cases = {name: text.decode().split() for name, text in lists.files_for("la").items()}
    trees.la(tmp_path, cases["train.list"], cases["test.list"])
    presence = look(CATALOGUE["la"], tmp_path)
    assert (presence.state, presence.found, presence.reason) == ("present", 100, "")


def test_docs_prints_the_page_or_writes_it(root: Path) -> None:
    page = (root / "docs/datasets.md").read_text(encoding="utf-8")
    missing = call("docs")
    assert "checkout" in str(missing.exception)
    Path("docs").mkdir()
    stale = page.replace("| `la` |", "| `lb` |")
    Path("docs/datasets.md").write_text(stale, encoding="utf-8")
    assert call("docs").output == page
    assert Path("docs/datasets.md").read_text(encoding="utf-8") == stale
    assert call("docs", "--write").exit_code == 0
    assert Path("docs/datasets.md").read_text(encoding="utf-8") == page


def test_help_names_the_commands_of_other_modules() -> None:
    output = call("--help").output
    assert all(f"\n  {name} " in output for name in ("docs", "download", "list", "show", "verify"))


def test_help_loads_nothing_heavy(root: Path) -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from voxseq.cli import main as cli\n"
        "assert 'data ' in CliRunner().invoke(cli.cli, ['--help']).output\n"
        "heavy = {'torch', 'monai', 'pydantic', 'numpy', 'pandas', 'rich', 'SimpleITK'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
