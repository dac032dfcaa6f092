"""HTTP sessions whose connections another thread can cut.

A read ends when bytes arrive, the server closes, or nothing has come for the read timeout. A server
that drips bytes keeps a header, the size of a chunk or a trailer going for ever; only shutting the
socket down ends that. urllib3 offers it for bodies (``HTTPResponse.shutdown``), not for headers.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from voxseq import __version__

# It logs headers that it cannot parse with a traceback; those that matter raise an error here.
logging.getLogger("urllib3").setLevel(logging.ERROR)
#: Seconds between two looks at late connections.
_INTERVAL = 0.1
#: The line of the thread that sends a request.
_HERE = threading.local()


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The work was asked to end; partial files are kept."""


class Line:
    """The connection of one request; its headers may take ``seconds`` in all."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = math.inf
        self._socket: socket.socket | None = None
        self._is_cut = False
        self.expired = False

    def hold(self, sock: socket.socket) -> None:
        """Watch this socket; the time for the headers begins."""
        self.close()
        # A copy, because the original changes hands when TLS begins.
        self._socket = socket.socket(fileno=os.dup(sock.fileno()))
        self.allow(self._seconds)
        if self._is_cut:
            self.cut()

    def allow(self, seconds: float) -> None:
        """Give the next piece this much time."""
        self._deadline = time.monotonic() + seconds

    def check(self) -> None:
        """Cut the connection if it is late."""
        if time.monotonic() > self._deadline and not self._is_cut:
            self.expired = True
            self.cut()

    def cut(self) -> None:
        """End every read and write, now and later."""
        self._is_cut = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the copy of the socket."""
        if self._socket is not None:
            self._socket.close()


def _hold(sock: Any) -> None:
    line: Line | None = getattr(_HERE, "line", None)
    if line is not None and sock is not None:
        line.hold(sock)


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _hold(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        # One that is used again is connected already.
        _hold(self.sock)
        super().request(*args, **kwargs)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        # Those of SOCKS proxies stay as they are.
        known = {HTTPConnection: _Connection, HTTPSConnection: _SecureConnection}
        pool.ConnectionCls = known.get(pool.ConnectionCls, pool.ConnectionCls)
        return pool


class Session(requests.Session):
    """A session without credentials that follows no redirect: the caller checks and follows each.

    Args:
        parallel: connections per host.
    """

    def __init__(self, parallel: int) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._lines: set[Line] = set()
        # Without this, requests would send the password of a .netrc.
        self.auth = lambda request: request
        self.headers["User-Agent"] = f"voxseq/{__version__}"
        # Archives are compressed already, and ranges of a compressed answer cannot be joined.
        self.headers["Accept-Encoding"] = "identity"
        adapter = _Adapter(pool_connections=8, pool_maxsize=parallel)
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        threading.Thread(target=self._watch, name="fetch-watch", daemon=True).start()

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect, however long."""
        return

    @contextmanager
    def line(self, seconds: float) -> Iterator[Line]:
        """A line for the requests that this thread sends inside the block."""
        _HERE.line = line = Line(seconds)
        # In this order: the watching thread cuts the lines that are here when ``stop`` is set.
        self._lines.add(line)
        try:
            self.check()
            yield line
        finally:
            _HERE.line = None
            self._lines.discard(line)
            line.close()

    def check(self) -> None:
        """Raise :class:`Stopped` once ``stop`` is set."""
        if self.stop.is_set():
            raise Stopped

    def _watch(self) -> None:
        while not self.stop.wait(_INTERVAL):
            for line in self._lines.copy():
                line.check()
        for line in self._lines.copy():
            line.cut()
