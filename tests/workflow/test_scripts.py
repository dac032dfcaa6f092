"""The shell scripts around jobs, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from tests.helpers import ROOT
from voxseq.config.execution import TrainingResources

SCRIPTS = ROOT / "workflow/scripts"


class Resources(dict[str, Any]):
    """As the plugin reads those of a job."""

    __getattr__ = dict.__getitem__


@dataclass(frozen=True)
class FakeSlurm:
    """Commands that write down how they were called.

    Attributes:
        folder: of the commands; comes first in PATH.
    """

    folder: Path

    def command(self, name: str, answer: str = "", status: int = 0) -> None:
        """Put a command there that gives this answer."""
        path = self.folder / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >>"{self.folder}/calls"\n'
            f"echo '{answer}'\nexit {status}\n"
        )
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return subprocess.run(
            words,
            env={**kept, "PATH": path, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    fake = FakeSlurm(tmp_path)
    fake.command("scontrol")
    return fake


def test_a_job_that_stopped_on_request_goes_back_into_the_queue(slurm: FakeSlurm) -> None:
    slurm.command("squeue", "RUNNING             3         ")
    words = ("bash", SCRIPTS / "stopped.sh", "75")
    assert slurm.run(*words, SLURM_JOB_ID="17").returncode == 75
    assert slurm.calls[-1] == "scontrol requeue 17"
    slurm.command("scontrol", status=1)
    assert slurm.run(*words, SLURM_JOB_ID="17").returncode == 75


@pytest.mark.parametrize(
    ("said", "status", "job"),
    [
        *((said, 75, "17") for said in ("COMPLETING 0", "CANCELLED 0", "RUNNING 100", "")),
        # The controller is away; a failure; no job of Slurm.
        *((None, 75, "17"), ("RUNNING 0", 75, "")),
        *(("RUNNING 0", status, "17") for status in (1, 2, 137)),
    ],
)
def test_other_jobs_do_not_come_back(
    slurm: FakeSlurm, said: str | None, status: int, job: str
) -> None:
    slurm.command("squeue", said or "", status=said is None)
    words = ("bash", SCRIPTS / "stopped.sh", str(status))
    assert slurm.run(*words, SLURM_JOB_ID=job).returncode == status
    assert not [call for call in slurm.calls if call.startswith("scontrol")]
    assert (status == 75 and job) or slurm.calls == []


def test_sacct_without_a_database_answers_from_the_controller(slurm: FakeSlurm) -> None:
    slurm.command("squeue", "7|COMPLETED")
    sacct = ROOT / "profiles/slurm/without-accounting/sacct"
    query = ("-X", "--parsable2", "--noheader", "--format=JobIdRaw,State", "--name", "abc")
    assert slurm.run(sacct, *query).stdout == "7|COMPLETED\n"
    (call,) = slurm.calls
    assert call.endswith("--states=all --format=%i|%T --name abc")
    assert slurm.run(sacct, "-nu", "somebody", "-o", "Account").stdout == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_announced_end_reaches_every_process_and_is_waited_for(
    tmp_path: Path, number: signal.Signals
) -> None:
    inner = "trap 'touch inner; exit 75' TERM; touch begun; while :; do sleep 0.05; done"
    outer = 'trap : TERM; bash -c "$0" || status=$?; touch outer; exit $status'
    process = subprocess.Popen(
        ["bash", SCRIPTS / "until_stopped.sh", "bash", "-c", outer, inner],
        cwd=tmp_path,
        # A shell cannot heed what was ignored when it began, as in jobs in the background.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "inner").exists()
    assert (tmp_path / "outer").exists()


@pytest.mark.parametrize("status", [0, 3])
def test_without_a_signal_the_status_is_the_commands(status: int) -> None:
    command = ["bash", SCRIPTS / "until_stopped.sh", "bash", "-c", f"exit {status}"]
    assert subprocess.run(command, check=False).returncode == status


@pytest.mark.parametrize("words", [[], ["nohup"]])
def test_a_lost_terminal_is_ignored_where_somebody_said_so(
    slurm: FakeSlurm, words: list[str]
) -> None:
    """torchrun, for which a stand-in is started, handles what its environment names."""
    slurm.command("python")
    python = slurm.folder / "python"
    python.write_text('#!/bin/sh\necho "${TORCHELASTIC_SIGNALS_TO_HANDLE:-its own}"\n')
    alone = ["env", "-C", slurm.folder]
    called = slurm.run(*alone, *words, "bash", SCRIPTS / "distributed.sh", "1", "2", python, "x")
    expected = "SIGTERM,SIGINT,SIGQUIT" if words else "its own"
    assert called.stdout.splitlines()[-1:] == [expected]


#: What Slurm says of a job of two nodes, shortened.
SHOWN = """JobId=17 JobName=x
   ReqNodeList=(null) ExcNodeList=(null)
   NodeList=node[3-4]
   BatchHost=node3
   NumNodes=2 NumCPUs=272 NumTasks=2 CPUs/Task=136 ReqB:S:C:T=0:0:*:*
"""


def test_processes_on_several_nodes_start_with_what_the_job_step_leaves(slurm: FakeSlurm) -> None:
    """It removes Slurm's variables but those that name the job; a list may come in parts."""
    scontrol = slurm.folder / "scontrol"
    scontrol.write_text(
        f"""#!/bin/sh
echo "scontrol $*" >>"{slurm.folder}/calls"
[ "$2" = job ] && cat <<'end' && exit
{SHOWN}end
echo node3; sleep 0.2; echo node4
"""
    )
    slurm.command("srun")
    words = ["env", "-C", slurm.folder, "bash", SCRIPTS / "distributed.sh", "2", "8", "python", "x"]
    done = slurm.run(*words, SLURM_JOB_ID="17", SLURM_JOBID="17", SLURM_CLUSTER_NAME="c")
    assert (done.returncode, done.stderr) == (0, "")
    *asked, srun = slurm.calls
    assert asked == ["scontrol show job 17", "scontrol show hostnames node[3-4]"]
    assert srun.startswith(
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=136 --kill-on-bad-exit "
    )
    assert "--nnodes=2 --nproc-per-node=8" in srun
    assert "--rdzv-endpoint=node3:20017" in srun


def test_a_job_of_which_slurm_says_no_nodes_is_no_silent_end(slurm: FakeSlurm) -> None:
    slurm.command("scontrol", "JobId=17 ReqNodeList=(null)")
    words = ["env", "-C", slurm.folder, "bash", SCRIPTS / "distributed.sh", "2", "8", "python", "x"]
    done = slurm.run(*words, SLURM_JOB_ID="17")
    assert done.returncode == 1
    assert "names no NodeList of job 17" in done.stderr


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"gpu": 0}, ("--nodes=1", "--ntasks=1")),
        ({"gpu": 8, "processes": 8}, ("--nodes=1", "--gpus=8")),
        ({"gpu": 16, "processes": 16, "nodes": 2}, ("--nodes=2", "--ntasks=2", "--gres=gpu:8")),
        ({"gpu": 0, "processes": 4, "nodes": 4}, ("--nodes=4", "--ntasks=4")),
    ],
)
def test_the_submission_asks_for_as_much_as_the_configuration_in_all(
    asked: dict[str, int], expected: tuple[str, ...]
) -> None:
    """By the plugin's own function, from the resources of the rule."""
    given = TrainingResources(threads=272, mem_mb=1_000_000, runtime=60, **asked)
    node = given.on_a_node
    resources = Resources(mem_mb=node["mem_mb"], runtime=60, **given.placement)
    job = SimpleNamespace(threads=node["threads"], resources=resources)
    names = ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    words = get_submit_command(job, dict.fromkeys(names, "")) + set_gres_string(job)
    found = set(words.split())
    assert found >= set(expected)
    assert not any(word.startswith("--ntasks-per-gpu") for word in found)
    tasks = given.nodes
    assert int(re.findall(r"--cpus-per-task=(\d+)", words)[0]) * tasks == 272
    assert int(re.findall(r"--mem (\d+)", words)[0]) * tasks == 1_000_000


@pytest.mark.slow
def test_processes_of_a_distributed_job_stop_together_with_one_status(tmp_path: Path) -> None:
    ranks = ROOT / "tests/slurm/ranks.py"
    process = subprocess.Popen(
        ["bash", SCRIPTS / "distributed.sh", "1", "2", "python", ranks, tmp_path],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    expected = [tmp_path / f"rank{rank}of2" for rank in range(2)]
    while not all(path.exists() for path in expected):
        assert process.poll() is None
        time.sleep(0.1)
    # As Slurm does it: to all processes, the launcher included.
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.resolve() == tmp_path:
                os.kill(int(path.parent.name), signal.SIGUSR1)
        except OSError:
            continue
    assert process.wait(timeout=120) == 75


@pytest.mark.parametrize(("answer", "left", "status"), [("31", 2, 0), ("invalid partition", 9, 1)])
def test_sbatch_waits_while_the_controller_is_away_and_for_nothing_else(
    slurm: FakeSlurm, answer: str, left: int, status: int
) -> None:
    path, away = slurm.folder / "sbatch", "Unable to contact slurm controller (connect failure)"
    said = away if status == 0 else answer
    path.write_text(
        f'#!/bin/sh\necho "sbatch $*" >>"{slurm.folder}/calls"\n'
        f'[ "$(grep -c ^sbatch "{slurm.folder}/calls")" -gt {left} ] && echo {answer} && exit\n'
        f"echo 'error: {said}' >&2\nexit 1\n"
    )
    path.chmod(0o755)
    folder = ROOT / "profiles/slurm/commands"
    paths = f"{folder}{os.pathsep}{slurm.folder}{os.pathsep}{os.environ['PATH']}"
    done = slurm.run("sbatch", "--parsable", "x y", PATH=paths, VOXSEQ_SBATCH_PAUSE="0")
    assert done.returncode == status
    assert slurm.calls == ["sbatch --parsable x y"] * (1 if status else 3)
    assert done.stdout == ("" if status else "31\n")


@pytest.mark.parametrize("status", [0, 1])
def test_seeds_are_done_one_after_the_other_and_their_tables_last(
    slurm: FakeSlurm, status: int
) -> None:
    slurm.command("voxseq", "seeds: 2")
    slurm.command("snakemake", status=status)
    done = slurm.run("bash", SCRIPTS / "seed_by_seed.sh", "study.yaml", "4")
    assert done.returncode == status
    calls = [line.split(" -- ") for line in slurm.calls[1:]]
    assert {words for words, _ in calls} == {"snakemake --cores 4 --configfile study.yaml"}
    targets = ["seed_0", "seed_1", "reproduce_tables"]
    assert [target for _, target in calls] == (targets[:1] if status else targets)
