"""Servers on this machine, and a guard against every other one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import servers
from tests.helpers.packing import Bucket, Site, md5
from voxseq.fetch import Services


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks for the address of another machine, nor goes through a proxy."""
    import socket

    real = socket.getaddrinfo

    def guarded(host: object, *args: object, **kwargs: object) -> object:
        assert host in ("127.0.0.1", "localhost", None), f"a test asked for {host}"
        return real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", guarded)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    for name in ("VOXSEQ_S3_ENDPOINT", "VOXSEQ_NBIA_URL", "VOXSEQ_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[servers.Server]:
    """A web server without pages."""
    with servers.running() as running:
        yield running


@pytest.fixture
def site(server: servers.Server, tmp_path: Path) -> Site:
    """One file on the server, and a data root."""
    (tmp_path / "around").mkdir()
    return Site(server, tmp_path / "around" / "root")


@pytest.fixture(scope="session")
def _s3() -> Iterator[str]:
    """Address of an S3 server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(_s3: str, request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket, one for each test."""
    return Bucket(_s3, f"b{md5(request.node.nodeid.encode())[4:]}")


@pytest.fixture
def services(bucket: Bucket, server: servers.Server) -> Services:
    """The S3 server, and a web server in place of TCIA's."""
    return Services(bucket.endpoint, f"{server.base}/nbia")
