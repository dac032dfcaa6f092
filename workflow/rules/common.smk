"""Configuration, plan and the helpers that all rules share."""

import os
import shlex
import subprocess

from voxseq.base.errors import VoxseqError
from voxseq.base.logs import SnakemakeWords
from voxseq.config import load_config, read_yaml, write_resolved
from voxseq.config.place import DATA_VARIABLE
from voxseq.engine.dvc import complete_stages, unrecorded_stages
from voxseq.engine.session import at_work, begin, tidy_up
from voxseq.engine.workspace import Workspace
from voxseq.plan import STAGES, build_plan

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
    """A path as a user would write it: from the present folder, where it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def read_plan():
    """The validated configuration (params.yaml and what is laid over it) and its plan."""
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
    """Whether Snakemake is told to do what is finished. Known when the jobs are chosen."""
    asked = workflow.dag_settings
    return bool(asked and (asked.forceall or asked.forcerun or asked.forcetargets))


# What the profiles ask for; whoever asks for anything else is shown what Snakemake shows.
_quiet = {str(word) for word in workflow.output_settings.quiet or ()}
logger.addFilter(
    SnakemakeWords(
        brief=workflow.output_settings.dryrun and _quiet == {"host", "reason"},
        owner=lambda: at_work(WORKSPACE),
        forced=is_forced,
    )
)

# Nothing is recorded inside a DVC stage, which DVC records itself, nor for what --configfile lays
# over params.yaml, which is all that DVC follows.
IS_RECORDED = "DVC_STAGE" not in os.environ and not config
#: Asked for when everything is done and yet not recorded, because an earlier call was killed.
RECORDED = f".voxseq/recorded/{PLAN.scale}"
_held = []


def begin_work():
    """Before the first job: keep other workflows out of this folder."""
    if workflow.is_main_process:
        if is_forced():
            raise WorkflowError(SnakemakeWords.FORCED)
        try:
            _held.append(begin(WORKSPACE))
        except VoxseqError as error:
            raise WorkflowError(str(error)) from None


def optional_sources():
    """What to say about optional sources of pre-training."""
    root = os.environ.get(DATA_VARIABLE) or CONFIG.data.root
    downloads = [run.config for job in PLAN.of_stage("download") for run in job.runs]
    if not any(config.optional for config in downloads) or not Path(root).is_dir():
        return ()
    from voxseq.data.verify import presence

    return presence.optional_sources(WORKSPACE, Path(root))


def prepare():
    """Before jobs are chosen: put right what killed calls left; say what DVC has not recorded."""
    if not workflow.is_main_process:
        return []
    is_dry = workflow.output_settings.dryrun
    try:
        for line in (*tidy_up(WORKSPACE, is_dry=is_dry), *optional_sources()):
            logger.info(f"voxseq: {line}")
        Path(RECORDED).unlink(missing_ok=True)
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

# The one command behind every job. The paths are the workspace's own and are quoted; all other
# words are names that the configuration has checked. The shell outlives SIGTERM and SIGHUP, so that
# voxseq has its time to write a checkpoint and its status is seen.
STOPPED = Path(workflow.basedir) / "workflow/scripts/stopped.sh"
DISTRIBUTED = Path(workflow.basedir) / "workflow/scripts/distributed.sh"


def run_job(launcher=""):
    """The command of a job, which a launcher may start in several processes."""
    return (
        f"trap : TERM HUP; PYTHONPATH={shlex.quote(str(SOURCE))} {launcher}{shlex.quote(PYTHON)}"
        f" -m voxseq run {{params.stage}} {{params.job}} --params {RESOLVED}"
        " --fingerprint {params.fingerprint} > {log} 2>&1"
        f" || bash {shlex.quote(str(STOPPED))} $?"
    )


def launcher_of(asked):
    """What starts the processes of one training; nothing where there is one."""
    if asked.processes == 1:
        return ""
    each = asked.processes // asked.nodes
    return f"bash {shlex.quote(str(DISTRIBUTED))} {asked.nodes} {each} "


def across_nodes(asked):
    """What a Slurm job on several nodes asks for besides; the launcher calls srun itself."""
    if asked.nodes == 1:
        return {}
    return {"nodes": asked.nodes, "tasks": asked.nodes, "tasks_per_gpu": 0, "mpi": "srun"}


wildcard_constraints:
    job=r"[A-Za-z0-9_.]+",
    fingerprint=r"[0-9a-f]{16}",


def marker_of(stage):
    """Pattern of the markers of a stage's jobs."""
    return f"{ARTEFACTS}/{stage}/jobs/{{job}}-{{fingerprint}}.json"


def markers(*stages):
    """Markers of all jobs of some stages."""
    return [PLAN.marker(job) for stage in stages for job in PLAN.of_stage(stage)]


def all_of(*stages):
    """What a target asks for: all jobs, and to be recorded if an earlier call was not."""
    return [*markers(*stages), *([RECORDED] if set(stages) & set(UNRECORDED) else [])]


def only_job(stage):
    """The job of a stage that has just one."""
    (job,) = PLAN.of_stage(stage)
    return job


def needs_of(stage):
    """Input function: markers of the jobs that a job waits for. Time stamps play no part."""

    def needs(wildcards):
        job = PLAN.jobs.get((stage, wildcards.job))
        if job is None or job.fingerprint != wildcards.fingerprint:
            raise WorkflowError(f"the plan has no job {stage}/{wildcards.job} of this fingerprint")
        return [ancient(path) for path in PLAN.needed_markers(job)]

    return needs


def resources_of(kind):
    """Configured resources of a kind of work."""
    return getattr(CONFIG.execution, kind)


def memory_of(kind):
    """Configured memory; every further attempt of a failed job gets as much again."""
    configured = resources_of(kind).mem_mb
    return lambda wildcards, attempt: configured * attempt


def record_in_dvc():
    """Let DVC record what was finished; inside a DVC stage DVC does that itself."""
    if config:
        print(
            "Not recorded in DVC, which follows params.yaml; "
            "`voxseq config use FILE` makes a scale the workspace's own."
        )
    if not IS_RECORDED:
        return
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-m", "voxseq", "record"], check=True, env=environment)
