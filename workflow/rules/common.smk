"""Configuration, plan and the helpers that all rules share."""

import os
import shlex
import subprocess

from voxseq.base.errors import VoxseqError
from voxseq.base.logs import SnakemakeWords
from voxseq.config import load_config, read_yaml, write_resolved
from voxseq.config.loggers import require_loggers
from voxseq.config.place import DATA_VARIABLE
from voxseq.engine.dvc import complete_stages, unrecorded_stages
from voxseq.engine.live import RunsShown
from voxseq.engine.session import at_work, begin, tidy_up
from voxseq.engine.workspace import Workspace
from voxseq.plan import STAGES, build_plan
from voxseq.plan.outputs import published
from voxseq.study.laying import follow_code

# The interpreter that runs Snakemake, unless jobs get a conda environment of their own.
_deployment = {str(m) for m in workflow.deployment_settings.deployment_method}
PYTHON = "python" if "conda" in _deployment else sys.executable
PARAMS = Path("params.yaml")


def read_overlays():
    """What --configfile and --config lay over params.yaml, in turn.

    The files are read again: Snakemake joins them before `!` has its meaning, and forgets where a
    key stands. Of an option that is given twice it keeps the last, without a word.
    """
    asked = [word.split("=")[0] for word in sys.argv if word.startswith("--configfile")]
    if len(asked) > 1:
        raise WorkflowError(
            f"{asked[-1]} is given {len(asked)} times, of which Snakemake reads the last alone\n"
            "  next: name all files after one --configfile, in the order in which they are laid "
            "over each other"
        )
    files = [read_yaml(named(path)) for path in workflow.overwrite_configfiles]
    return [*files, dict(workflow.config_settings.config)]


def named(path):
    """A path as a user would write it: relative to the current folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_plan():
    """The validated configuration (params.yaml and its overlays) and its plan."""
    try:
        loaded = load_config(PARAMS, read_overlays())
        return loaded, build_plan(loaded)
    except VoxseqError as error:
        raise WorkflowError(str(error)) from None


CONFIG, PLAN = read_plan()
RESULTS = PLAN.results
ARTEFACTS = PLAN.artefacts
LOGS = f"logs/{PLAN.scale}"
BENCHMARKS = f"logs/{PLAN.scale}/benchmarks"

WORKSPACE = Workspace(Path.cwd(), PLAN)


def is_forced():
    """Whether finished jobs are asked for by force. Known when the jobs are chosen."""
    asked = workflow.dag_settings
    return bool(asked and (asked.forceall or asked.forcerun or asked.forcetargets))


# The profiles' own setting; any other one shows Snakemake's full output.
_quiet = {str(word) for word in workflow.output_settings.quiet or ()}
logger.addFilter(
    SnakemakeWords(
        brief=workflow.output_settings.dryrun and _quiet == {"host", "reason"},
        owner=lambda: at_work(WORKSPACE),
        forced=is_forced,
        overlays=[named(path) for path in workflow.overwrite_configfiles],
    )
)

# Nothing is recorded inside a DVC stage, which DVC records itself, nor for what --configfile lays
# over params.yaml, which is all that DVC follows.
IS_RECORDED = "DVC_STAGE" not in os.environ and not config
#: Asked for when everything is done and yet not recorded, because an earlier call was killed.
RECORDED = f".voxseq/recorded/{PLAN.scale}"
_held = []
#: The runs that jobs do at the moment.
SHOWN = RunsShown(WORKSPACE, logger)


def begin_work():
    """Before the first job: keep other workflows out of this folder."""
    if workflow.is_main_process:
        if is_forced():
            raise WorkflowError(SnakemakeWords.FORCED)
        try:
            _held.append(begin(WORKSPACE))
        except VoxseqError as error:
            raise WorkflowError(str(error)) from None
        if "all" not in _quiet:
            SHOWN.start()


def optional_sources():
    """Lines about optional sources of pre-training."""
    runs = [run for run in PLAN.runs.values() if run.stage == "download" and run.config.optional]
    root = os.environ.get(DATA_VARIABLE) or CONFIG.data.root
    if not runs or not Path(root).is_dir():
        return ()
    from voxseq.data.verify.presence import optional_sources

    finished = [WORKSPACE.folder(run) if WORKSPACE.is_finished(run) else None for run in runs]
    return optional_sources(zip([run.config.dataset for run in runs], finished), Path(root))


def prepare():
    """Before jobs are chosen: recover from killed calls; find stages that DVC has not recorded."""
    if not workflow.is_main_process:
        return []
    is_dry = workflow.output_settings.dryrun
    try:
        require_loggers(CONFIG.execution.loggers)
        for line in (*tidy_up(WORKSPACE, is_dry=is_dry), *optional_sources()):
            logger.info(f"voxseq: {line}")
        Path(RECORDED).unlink(missing_ok=True)
        if not is_dry and follow_code(Path.cwd()):
            logger.info("voxseq: this workspace now follows the code of the installed version")
        say_how_to_force()
        return unrecorded_stages(Path.cwd(), PLAN) if IS_RECORDED else []
    except VoxseqError as error:
        raise WorkflowError(str(error)) from None


def say_how_to_force():
    """DVC does not tell its stages that they are forced (``dvc repro -f``)."""
    stage = os.environ.get("DVC_STAGE")
    if stage in complete_stages(Path.cwd(), PLAN) and PLAN.of_stage(stage):
        logger.info(
            f"voxseq: all of {stage} is finished already; `voxseq forget {stage}` and then DVC "
            "have it done again"
        )


UNRECORDED = prepare()

# Jobs read this file, which an edit of params.yaml does not reach.
RESOLVED = write_resolved(CONFIG)

SCRIPTS = Path(workflow.basedir) / "workflow/scripts"


def command(*options):
    """The one command behind every job, with further options of ``voxseq job``.

    The paths are the workspace's own and are quoted; all other words are names that the
    configuration has checked. The shell outlives requests to stop, so that voxseq has its time to
    write a checkpoint and its status is seen.
    """
    return (
        f"trap : TERM HUP INT; PYTHONPATH={shlex.quote(str(SOURCE))} "
        f"{{params.launcher}}{shlex.quote(PYTHON)} -m voxseq job {{params.stage}} {{params.job}}"
        f" --params {RESOLVED} --fingerprint {{params.fingerprint}}"
        f"{''.join(f' {option}' for option in options)} > {{log}} 2>&1"
        f" || bash {shlex.quote(str(SCRIPTS / 'stopped.sh'))} $?"
    )


def launcher_of(asked):
    """Command that launches the processes of one training; empty for a single process."""
    if asked.processes == 1:
        return ""
    each = asked.processes // asked.nodes
    # On one machine the GPUs of a job are leased for all of its processes; Slurm hands out nodes.
    lease = f"{shlex.quote(PYTHON)} -m voxseq.base.gpus {each} "
    script = f"bash {shlex.quote(str(SCRIPTS / 'distributed.sh'))} {asked.nodes} {each} "
    return lease + script if asked.gpu and asked.nodes == 1 else script


def markers(*stages):
    """Markers of all jobs of some stages."""
    return [PLAN.marker(job) for stage in stages for job in PLAN.of_stage(stage)]


def all_of(*stages):
    """Input of a target: all jobs, and a record in DVC if an earlier call left none."""
    return [*markers(*stages), *([RECORDED] if set(stages) & set(UNRECORDED) else [])]


#: The stage whose results are large enough that their checksums take more than moments.
VERIFIED = "preprocess"


def verification(job, fingerprint):
    """The file that says, until those who wait for it are done, that a job was verified."""
    return f"{WORKSPACE.verifications.relative_to(WORKSPACE.root)}/{job}-{fingerprint}"


def needs_of(stage, gpu):
    """Input function: markers of the jobs that a job waits for. Time stamps play no part.

    Before a job holds a GPU the volumes that it reads are compared with their checksums.
    """

    def needs(wildcards):
        job = PLAN.jobs.get((stage, wildcards.job))
        if job is None or job.fingerprint != wildcards.fingerprint:
            raise WorkflowError(f"the plan has no job {stage}/{wildcards.job} of this fingerprint")
        paths = PLAN.needed_markers(job)
        # Not for a job that is finished: Snakemake would repeat it after its volumes were verified.
        if gpu and not Path(PLAN.marker(job)).exists():
            needed = [PLAN.jobs[key] for key in job.needs]
            volumes = [one for one in needed if one.stage == VERIFIED]
            paths += [verification(one.name, one.fingerprint) for one in volumes]
        return [ancient(path) for path in paths]

    return needs


def memory_of(asked):
    """Memory on each node; every further attempt of a failed job gets as much again."""
    return lambda wildcards, attempt: asked.on_a_node["mem_mb"] * attempt


#: Folder of published files and the ending of those that Snakemake's own report shows.
REPORTED = {"tables": ".md", "figures": ".png", "report": ".html"}


def publications(stage):
    """The marker of a report, the files that it publishes, and a note if they are outdated."""
    (job,) = PLAN.of_stage(stage)
    files = [described(name) for name in published(job.runs[0])]
    return [PLAN.marker(job), *files, *map(touch, OUTDATED[stage])]


def described(name):
    """A published file, with its caption where it has one."""
    path, folder = f"{RESULTS}/{name}", name.split("/")[0]
    caption = Path(workflow.basedir) / f"workflow/report/{Path(name).stem}.rst"
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
    if all(Path(path).exists() for path in markers(stage)):
        return []
    if workflow.is_main_process:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        os.utime(note, (1, 1))
    return [str(note)]


OUTDATED = {stage: outdated(stage) for stage in ("tables", "figures")}


def needs_of_report(stage):
    """Markers of the jobs that a report waits for, and a newer input if it is outdated."""
    (job,) = PLAN.of_stage(stage)
    needed = [ancient(path) for path in PLAN.needed_markers(job)]
    return [*needed, *([RESOLVED] if OUTDATED[stage] else [])]


def record_in_dvc():
    """Let DVC record finished stages; inside a DVC stage DVC does that itself."""
    if config:
        print(
            "Not recorded in DVC, which follows params.yaml; "
            "`voxseq config use FILE` makes a scale the workspace's own."
        )
    if not IS_RECORDED:
        return
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-m", "voxseq", "record"], check=True, env=environment)
