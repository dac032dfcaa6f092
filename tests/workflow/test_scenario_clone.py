"""Scenario 6: a fresh clone with the results pulled from a remote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.study import Study

pytestmark = [pytest.mark.slow, pytest.mark.workflow]

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """An S3 bucket served by this process: its address and that of the server."""
    server_of = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = pytest.importorskip("boto3")
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="study")
        yield "s3://study/cache", address
    finally:
        server.stop()


def clone_has_nothing_to_do(study: Study, target: Path) -> Study:
    """Push, clone, pull; neither engine wants to do anything."""
    study.commit("remote named")
    study.dvc("push")
    study.git("clone", "--quiet", str(study.root), str(target))
    clone = Study(target, study.extra)
    assert not (target / "artifacts").exists()
    clone.dvc("pull")
    assert not (target / ".snakemake").exists()
    clone.assert_nothing_to_do()
    clone.run("dvc")
    clone.run("snakemake")
    assert clone.computed() == []
    assert (clone.runs(), clone.tables()) == (study.runs(), study.tables())
    return clone


def test_clone_from_a_folder(
    study: Study, tmp_path: Path, found: Callable[[int, str], None]
) -> None:
    study.dvc("remote", "add", "--default", "store", str(tmp_path / "remote"))
    clone_has_nothing_to_do(study, tmp_path / "clone")
    found(6, "clone and `dvc pull` from a folder: nothing to do in either engine")


def test_clone_from_s3(
    study: Study, tmp_path: Path, bucket: tuple[str, str], found: Callable[[int, str], None]
) -> None:
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed")
    study.extra.update(KEYS)
    study.dvc("remote", "add", "--default", "store", bucket[0])
    study.dvc("remote", "modify", "store", "endpointurl", bucket[1])
    clone_has_nothing_to_do(study, tmp_path / "clone")
    found(6, "clone and `dvc pull` from S3: nothing to do in either engine")
