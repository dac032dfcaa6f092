"""Configuration, plan and the helpers that all rules share."""

import os
import shlex
import subprocess

from voxseq.config.load import load_config
from voxseq.errors import VoxseqError
from voxseq.files import write_json
from voxseq.fingerprint import digest
from voxseq.plan import STAGES, build_plan

# The interpreter that runs Snakemake, unless jobs get a conda environment of their own.
_deployment = {str(m) for m in workflow.deployment_settings.deployment_method}
PYTHON = "python" if "conda" in _deployment else sys.executable
PARAMS = Path("params.yaml")


def read_plan():
    """The validated configuration (params.yaml and what --configfile lays over it) and its plan."""
    try:
        loaded = load_config(PARAMS, [config] if config else [])
        return loaded, build_plan(loaded)
    except VoxseqError as error:
        raise WorkflowError(str(error)) from None


CONFIG, PLAN = read_plan()
RESULTS = PLAN.results
ARTEFACTS = PLAN.artefacts
LOGS = f"logs/{PLAN.scale}"
BENCHMARKS = f"logs/{PLAN.scale}/benchmarks"

# Jobs read the configuration from a file that is named by its content, so that an edit of
# params.yaml while the workflow runs cannot reach half of the jobs.
_resolved = CONFIG.model_dump(mode="json")
RESOLVED = f".voxseq/config/{digest(_resolved)}.json"
if not Path(RESOLVED).exists():
    write_json(Path(RESOLVED), _resolved)

# The one command behind every job. The paths are the workspace's own and are quoted; all other
# words are names that the configuration has checked.
RUN_JOB = (
    f"PYTHONPATH={shlex.quote(str(SOURCE))} {shlex.quote(PYTHON)} -m voxseq"
    f" run {{params.stage}} {{params.job}} --params {RESOLVED}"
    " --fingerprint {params.fingerprint} > {log} 2>&1"
)


wildcard_constraints:
    job=r"[A-Za-z0-9_.]+",
    fingerprint=r"[0-9a-f]{16}",


def marker_of(stage):
    """Pattern of the markers of a stage's jobs."""
    return f"{ARTEFACTS}/{stage}/jobs/{{job}}-{{fingerprint}}.json"


def markers(*stages):
    """Markers of all jobs of some stages."""
    return [PLAN.marker(job) for stage in stages for job in PLAN.of_stage(stage)]


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


def record_in_dvc():
    """Let DVC record what was finished; inside a DVC stage DVC does that itself."""
    if "DVC_STAGE" in os.environ:
        return
    if config:
        print(
            "Not recorded in DVC, which follows params.yaml; "
            "`voxseq config use FILE` makes a scale the workspace's own."
        )
        return
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-m", "voxseq", "record"], check=True, env=environment)
