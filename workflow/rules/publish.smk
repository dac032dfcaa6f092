"""What the stages "tables" and "figures" publish, and when it belongs to other parameters."""

from voxseq.plan.outputs import published

CAPTIONS = Path(workflow.basedir) / "workflow/report"
#: Folder of published files and the ending of those that Snakemake's own report shows.
REPORTED = {"tables": ".md", "figures": ".png", "report": ".html"}


def publications(stage):
    """What a stage publishes."""
    (run,) = only_job(stage).runs
    return [described(name) for name in published(run)]


def described(name):
    """A published file, with its caption where it has one."""
    path, folder = f"{RESULTS}/{name}", name.split("/")[0]
    caption = CAPTIONS / f"{Path(name).stem}.rst"
    shown = Path(name).suffix == REPORTED.get(folder) or name.startswith("tables/scores")
    if not shown or not caption.exists():
        return path
    return report(path, caption=caption, category=folder.capitalize())


def outdated(stage):
    """A note that published files belong to other parameters, while the stage's job is to do.

    They are under version control, so they may be there without the job's results. Snakemake
    asks time stamps only: among the job's outputs is therefore one that is older than its input.
    """
    note = Path(f".voxseq/outdated/{PLAN.scale}/{stage}")
    if Path(PLAN.marker(only_job(stage))).exists():
        return []
    if workflow.is_main_process:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        os.utime(note, (1, 1))
    return [str(note)]


OUTDATED = {stage: outdated(stage) for stage in ("tables", "figures")}


def needs_of_report(stage):
    """Markers of the jobs that a report waits for, and a newer input if it is outdated."""
    needed = [ancient(path) for path in PLAN.needed_markers(only_job(stage))]
    return [*needed, *([RESOLVED] if OUTDATED[stage] else [])]
