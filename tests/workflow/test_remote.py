"""`workflow/scripts/remote.sh`: a place for artefacts, from which a second clone has everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT
from voxseq.study.laying import lay

SCRIPT = "workflow/scripts/remote.sh"
KEYS = {
    **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "test"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    "AWS_DEFAULT_REGION": "us-east-1",
}


class Workspace:
    """A folder, and commands in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        person = {"NAME": "test", "EMAIL": "test@localhost"}
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "DVC_"))},
            **{f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in person.items()},
            **KEYS,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "dvc-site"),
        }

    def call(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def commit(self) -> None:
        self.call("git", "add", "--all")
        self.call("git", "commit", "--quiet", "--message", "all")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A new workspace under version control, with one file that DVC has recorded."""
    made = Workspace(tmp_path / "mine")
    lay(made.root)
    made.call("git", "init", "--quiet")
    (made.root / "scan.bin").write_bytes(b"voxels")
    # In place of the stages' artefacts, which take minutes.
    made.call("dvc", "add", "--quiet", "scan.bin")
    made.commit()
    return made


@pytest.fixture
def bucket() -> Iterator[str]:
    """Address of a server of S3 with one bucket."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    server_of = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = pytest.importorskip("boto3")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="study")
        yield address
    finally:
        server.stop()


def second_clone(first: Workspace) -> Workspace:
    first.commit()
    clone = Workspace(first.root.parent / "clone")
    first.call("git", "clone", "--quiet", str(first.root), str(clone.root))
    return clone


@pytest.mark.slow
def test_a_second_clone_pulls_from_a_folder(workspace: Workspace, tmp_path: Path) -> None:
    place = tmp_path / "share/voxseq"
    # Relative to the workspace, as a user types it.
    said = workspace.call("bash", SCRIPT, os.path.relpath(place, workspace.root))
    assert f"{place} has everything" in said
    clone = second_clone(workspace)
    clone.call("dvc", "pull", "--allow-missing")
    assert (clone.root / "scan.bin").read_bytes() == b"voxels"
    assert "up to date" in clone.call("dvc", "status", "scan.bin.dvc")
    # What is new is pushed by a second call, which names nothing twice.
    (workspace.root / "scan.bin").write_bytes(b"more voxels")
    workspace.call("dvc", "add", "--quiet", "scan.bin")
    workspace.call("bash", SCRIPT, str(place))
    assert workspace.call("dvc", "remote", "list").count("store") == 1
    assert len([p for p in place.rglob("*") if p.is_file()]) == 2


@pytest.mark.slow
def test_a_second_clone_pulls_from_s3(workspace: Workspace, bucket: str) -> None:
    settings = (f"endpointurl={bucket}", "access_key_id=test", "secret_access_key=test")
    workspace.call("bash", SCRIPT, "s3://study/cache", *settings)
    shared, own = ((workspace.root / f".dvc/{n}").read_text() for n in ("config", "config.local"))
    assert bucket in shared
    assert "access_key" not in shared
    assert "secret_access_key = test" in own
    clone = second_clone(workspace)
    clone.call("dvc", "pull", "--allow-missing")
    assert (clone.root / "scan.bin").read_bytes() == b"voxels"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no place is named"),
        (["/dev/null/share"], "cannot be written"),
        (["share"], "is not under version control"),
    ],
    ids=["nothing", "place", "git"],
)
def test_mistakes_are_named(tmp_path: Path, words: list[str], said: str) -> None:
    made = Workspace(tmp_path / "mine")
    lay(made.root)
    if said.endswith("written"):
        made.call("git", "init", "--quiet")
    printed = made.call("bash", SCRIPT, *words, status=2)
    assert said in printed
    assert "next: " in printed
