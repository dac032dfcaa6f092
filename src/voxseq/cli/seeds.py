"""Commands about the files of seeds: tables made of them alone, and whether a machine agrees."""

from __future__ import annotations

from pathlib import Path

import click

from voxseq.base.errors import DataError, IntegrityError
from voxseq.base.words import several
from voxseq.cli.options import overlay_option, params_option, study_argument, workspace_of


@click.command()
@params_option
@overlay_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the tables.",
)
def report(params: Path, overlays: tuple[Path, ...], folder: Path, out: Path) -> None:
    """Make the tables of the seeds whose files are in FOLDER, without any training.

    FOLDER is that of the results of a study, or its folder scores. The configuration says which
    tables there are; with another scale than that of params.yaml name it: --overlay.
    """
    from voxseq.cli.show import printed
    from voxseq.plan.outputs import SCORES, table_numbers
    from voxseq.report.seeds.agree import of_files, seeds_of, with_further
    from voxseq.report.tables.run import write_tables

    plan = workspace_of(params, overlays).plan
    paths = sorted({*folder.glob("seed-*.json"), *(folder / SCORES).glob("seed-*.json")})
    if not paths:
        raise DataError(
            f"{folder} has no seed-*.json",
            "name the results of a study, such as results/study, or its folder scores",
        )
    planned = plan.runs["tables/all"].config
    study = of_files(planned, paths)
    seeds = seeds_of(study, {})
    for reason in seeds.left_out:
        click.echo(f"left out: {reason}", err=True)
    if not seeds.scores:
        raise IntegrityError(f"no seed of {folder} can be used", "see the lines above")
    if study.study != planned.study:
        click.echo(
            "note: these seeds were trained with another configuration, or other versions of the "
            "code, than the present ones",
            err=True,
        )
    study = with_further(study, seeds)
    write_tables(study, {}, out)
    click.echo(printed(out, table_numbers(study)), nl=False)
    click.echo(f"{out / 'tables'}: tables of {several(len(seeds.scores), 'seed')}")


@click.command("verify-lock")
@params_option
@overlay_option
@click.option("--revision", default="HEAD", show_default=True, help="Of git.")
@study_argument
def verify_lock(params: Path, overlays: tuple[Path, ...], revision: str) -> None:
    """Compare this machine's runs with the files of seeds that are committed, run by run.

    Says of each run of STUDY that is finished here whether its fingerprint, its scores and what it
    predicted are those of the committed file, to the last digit that is written there.
    """
    from voxseq.plan.outputs import seed_file
    from voxseq.report.seeds.compare import committed, unlike
    from voxseq.report.seeds.gather import seed_scores

    workspace = workspace_of(params, overlays)
    plan = workspace.plan
    compared = differing = 0
    for run in (run for run in plan.runs.values() if run.stage == "scores"):
        path = Path(plan.results) / seed_file(run.config.seed)
        there = committed(workspace.root, path, revision)
        finished = [one for name in run.inputs if workspace.is_finished(one := plan.runs[name])]
        if there is None or not finished:
            missing = "is not committed" if there is None else "none of its runs is finished here"
            click.echo(f"seed {run.config.seed}: {path}: {missing}")
            continue
        own = seed_scores(run.config, {one.id: workspace.folder(one) for one in finished})
        found = list(unlike(own, there))
        for differing_run in found:
            click.echo(f"unlike: {differing_run.run}: {differing_run.reason}")
        count = len(own.runs) + len(own.pretrainings)
        versions = ", ".join(f"{name} {value}" for name, value in there.versions.items())
        click.echo(
            f"seed {run.config.seed}: {count - len(found)} of {count} runs that are finished here "
            f"are as committed ({len(run.inputs)} planned; committed with {versions})"
        )
        compared, differing = compared + count, differing + len(found)
    if not compared:
        raise DataError(
            "there is nothing to compare",
            "train the study here, and commit the files of its seeds, or name another --revision",
        )
    if differing:
        raise IntegrityError(
            f"{differing} of {compared} runs are not as committed",
            "another machine may round otherwise; another fingerprint means another configuration "
            "or version of the code",
        )
