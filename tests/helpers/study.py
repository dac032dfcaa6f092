"""A checkout of the tiny study, in which the engines are really run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import ROOT
from tests.helpers.preloaded import preloaded
from voxseq.config import load_config
from voxseq.plan import build_plan
from voxseq.plan.outputs import published

Found = Callable[[int, str], None]
#: Longest time for one call of an engine, in seconds. A busy machine is no failure.
TIMEOUT = 3600
ARTEFACTS = "artifacts/tiny"
RESULTS = "results/tiny"


@dataclass(frozen=True)
class Done:
    """What a command said, and its status."""

    status: int
    said: str


@dataclass
class Study:
    """One checkout.

    Attributes:
        root: its folder.
        extra: environment variables for all commands.
        remote: settings of DVC's remote.
    """

    root: Path
    extra: dict[str, str] = field(default_factory=dict)
    remote: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """That of the tests, with this checkout's code and nothing of the user's own."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("VOXSEQ_", "DVC_", "GIT_"))
        }
        person = {"NAME": "test", "EMAIL": "test@localhost"}
        return {
            **kept,
            **{f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in person.items()},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "src",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "dvc-site"),
            "OMP_NUM_THREADS": "1",
            **self.extra,
        }

    @property
    def preloaded(self) -> dict[str, str]:
        """The same, with engines and jobs that have imported their libraries."""
        environment = self.environment
        return {**environment, "PATH": f"{preloaded()}{os.pathsep}{environment['PATH']}"}

    def call(self, *words: str, fails: bool = False) -> str:
        """Run a command; it has to succeed, or to fail."""
        done = self.attempt(*words)
        shown = f"{' '.join(words)} ended with {done.status}:\n{done.said[-6000:]}"
        assert (done.status != 0) == fails, shown
        return done.said

    def attempt(self, *words: str) -> Done:
        """Run a command and wait for it."""
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.preloaded,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def start(self, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """Run a command beside the test, in a process group of its own."""
        with log.open("wb") as handle:
            return subprocess.Popen(
                words,
                cwd=self.root,
                env=self.environment,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, engine: str) -> str:
        """Bring everything up to date with one of the two engines."""
        return self.call(*COMMANDS[engine])

    def voxseq(self, *words: str, fails: bool = False) -> str:
        """Run the program of this checkout."""
        return self.call("python", "-m", "voxseq", *words, fails=fails)

    def git(self, *words: str) -> str:
        """Run git."""
        return self.call("git", *words)

    def dvc(self, *words: str) -> str:
        """Run DVC."""
        return self.call("dvc", *words)

    def commit(self, message: str) -> None:
        """Put all that git versions under version control."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def params(self) -> dict[str, Any]:
        """The content of params.yaml."""
        content: dict[str, Any] = yaml.safe_load((self.root / "params.yaml").read_text())
        return content

    def change(self, dotted: str, value: Any) -> None:
        """Set a key of params.yaml; ``None`` removes it."""
        content = self.params()
        *parents, last = dotted.split(".")
        place = content
        for key in parents:
            place = place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
        (self.root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def record(self) -> Any:
        """What DVC has recorded."""
        return yaml.safe_load((self.root / "dvc.lock").read_text())

    def lay(self, overlay: Mapping[str, Any]) -> None:
        """Lay keys over params.yaml, as ``voxseq config use`` does with a file."""
        path = self.root / ".voxseq/overlay.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(dict(overlay)))
        self.voxseq("config", "use", str(path.relative_to(self.root)))

    def published(self) -> dict[str, bytes]:
        """All files in the results folder."""
        base = self.root / RESULTS
        paths = (path for path in sorted(base.rglob("*")) if path.is_file())
        return {str(path.relative_to(base)): path.read_bytes() for path in paths}

    def declared(self) -> set[str]:
        """The files that the present parameters publish there."""
        plan = build_plan(load_config(self.root / "params.yaml"))
        return {name for run in plan.runs.values() for name in published(run)}

    def copy(self, target: Path) -> Study:
        """A copy of everything, ignored files and links included."""
        shutil.copytree(self.root, target, symlinks=True)
        return Study(target, self.extra)

    def computed(self) -> list[str]:
        """Ids of all runs that were ever computed here, in order; restored ones are not."""
        return [line["run"] for line in self.history()]

    def history(self) -> list[dict[str, Any]]:
        """Lines of the history of computed runs."""
        path = self.root / ".voxseq/history.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @contextmanager
    def computes(self, expected: Sequence[str]) -> Iterator[None]:
        """Within this block exactly these runs are computed, each once."""
        before = len(self.computed())
        yield
        assert sorted(self.computed()[before:]) == sorted(expected)

    def planned(self) -> list[str]:
        """Markers of all jobs of the present configuration that are there."""
        base = self.root / ARTEFACTS
        return [str(p.relative_to(self.root)) for p in sorted(base.glob("*/jobs/*.json"))]

    def runs(self) -> dict[str, str]:
        """Marker of every finished run: path below the artefacts → content.

        Equal markers stand for equal results: they hold the checksum of every lasting file.
        """
        base = self.root / ARTEFACTS
        return {
            str(path.relative_to(base)): path.read_text()
            for path in sorted(base.rglob("run-*.json"))
            if ".work" not in path.parts
        }

    def tables(self) -> dict[str, bytes]:
        """Published tables and scores."""
        base = self.root / RESULTS
        paths = [*sorted((base / "tables").iterdir()), base / "metrics.json"]
        return {path.name: path.read_bytes() for path in paths}

    def state(self) -> tuple[dict[str, str], dict[str, bytes]]:
        """Finished runs and published tables."""
        return self.runs(), self.tables()

    def push(self, remote: str, message: str = "remote named") -> None:
        """Name a remote, push DVC's cache there, and commit all that git versions."""
        settings = [f"{key}={value}" for key, value in self.remote.items()]
        self.call("bash", "workflow/scripts/remote.sh", remote, *settings)
        self.commit(message)

    def clone(self, target: Path) -> Study:
        """A clone by git, with nothing pulled."""
        self.git("clone", "--quiet", str(self.root), str(target))
        return Study(target, self.extra)

    @contextmanager
    def working(self, *words: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A command beside the block, which begins when a checkpoint is there."""
        process = self.start(*words, log=log)
        try:
            while not list((self.root / ".voxseq/state").rglob("checkpoint.pt")):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def versioned(self, stage: str) -> set[str]:
        """Paths that DVC has recorded of a stage's folder."""
        outs = self.record()["stages"][stage]["outs"]
        (found,) = (out["md5"] for out in outs if out["path"] == f"{ARTEFACTS}/{stage}")
        listed = self.root / ".dvc/cache/files/md5" / found[:2] / found[2:]
        return {entry["relpath"] for entry in json.loads(listed.read_text())}

    def assert_nothing_to_do(self) -> None:
        """Neither engine wants to do anything, and neither does anything when asked."""
        said = self.call("snakemake", "-n", "--", "reproduce_tables")
        assert "Nothing to be done" in said, said[-3000:]
        said = self.dvc("status")
        assert "up to date" in said, said

    def assert_whole(self) -> None:
        """Every run that claims to be finished has its files, with their checksums."""
        for path, text in self.runs().items():
            folder = (self.root / ARTEFACTS / path).parent
            for name, kept in json.loads(text)["files"].items():
                content = (folder / name).read_bytes()
                assert hashlib.sha256(content).hexdigest() == kept["sha256"], folder / name
        finished = set(self.runs())
        for path in sorted((self.root / ARTEFACTS).glob("*/jobs/*.json")):
            for run, fingerprint in json.loads(path.read_text())["runs"].items():
                assert f"{run}/run-{fingerprint}.json" in finished, f"{path} claims {run}"


COMMANDS = {
    "snakemake": ("snakemake", "--cores", "2", "--", "reproduce_tables"),
    "dvc": ("dvc", "repro"),
}


def checkout(target: Path) -> Study:
    """The repository's files as they are now, in a repository of their own, with the tiny scale."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    study = Study(target)
    study.git("init", "--quiet", "--initial-branch", "main")
    for overlay in ("workflow/scales/smoke.yaml", "tests/workflow/tiny.yaml"):
        study.voxseq("config", "use", overlay)
    # Edits that nobody has judged yet are no matter of these tests.
    study.voxseq("code", "keep", "all")
    (target / "dvc.lock").unlink(missing_ok=True)
    # As the demo's, results are under version control, so that a clone has them.
    with (target / ".gitignore").open("a") as ignored:
        ignored.write(f"!/{RESULTS}/\n")
    study.commit("the tiny study, nothing done")
    return study
