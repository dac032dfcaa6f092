"""Commands that messages name as the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxseq.base.commands import overlay_named, overlays_of, to_make, with_overlays
from voxseq.base.errors import VoxseqError

STUDY, SCALE = Path("studies/mine.yaml"), Path("workflow/scales/my quick.yaml")


@pytest.mark.parametrize(
    ("targets", "overlays", "command"),
    [
        ((), (), "snakemake --cores all reproduce_tables"),
        (("tables", "figures"), (), "snakemake --cores all tables figures"),
        ((), (STUDY,), "voxseq run mine"),
        (("pretrain",), (STUDY,), "voxseq run mine pretrain"),
        (("tables", "figures"), (STUDY,), "voxseq run mine"),
        (("tables",), (SCALE,), f"snakemake --cores all --configfile '{SCALE}' -- tables"),
        (
            ("tables",),
            (Path("more.yaml"), STUDY),
            f"snakemake --cores all --configfile more.yaml {STUDY} -- tables",
        ),
    ],
)
def test_the_next_command_is_one_of_the_study_at_hand(
    targets: tuple[str, ...], overlays: tuple[Path, ...], command: str
) -> None:
    assert to_make(*targets, overlays=overlays) == command


def test_a_command_of_voxseq_names_every_overlay() -> None:
    assert with_overlays("voxseq plan", ()) == "voxseq plan"
    said = with_overlays("voxseq plan", (STUDY, SCALE))
    assert said == f"voxseq plan --overlay {STUDY} --overlay '{SCALE}'"


def test_an_overlay_is_a_path_or_the_name_of_a_study_or_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("studies/mine.yaml", "workflow/scales/quick.yaml", "other"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert overlay_named("mine") == Path("studies/mine.yaml")
    assert overlay_named("quick") == Path("workflow/scales/quick.yaml")
    assert overlays_of("mine") == (Path("studies/mine.yaml"),)
    assert overlays_of("demo") == ()
    for path in ("other", "no/such.yaml", "quick.yaml"):
        assert overlay_named(path) == Path(path)
    with pytest.raises(VoxseqError, match="choose from mine, quick"):
        overlay_named("nope")
