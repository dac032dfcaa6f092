"""Connections that another thread can cut.

A read that waits for a server ends when bytes arrive, the server closes, or nothing has come for
the read's time-out; a server that sends a byte now and then keeps a header, a chunk's size or a
trailer going for ever. Only shutting the socket down ends that from outside. urllib3 offers it for
the body of an answer (``HTTPResponse.shutdown``) but not while the headers are read.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

from voxseq import __version__

# It reports headers that it cannot parse as warnings with a traceback; what matters of them is an
# error here.
logging.getLogger("urllib3").setLevel(logging.ERROR)
#: Seconds between two looks at who is late.
_LOOK = 0.1
#: The line of the thread that asks.
_HERE = threading.local()


class Line:
    """The connection that one request uses.

    Args:
        seconds: how long the headers of an answer may take, all together.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = float("inf")
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._cut = False
        self.expired = False

    def hold(self, number: int) -> None:
        """Use the socket with this file number; from now on an answer is waited for."""
        with self._lock:
            self._release()
            # A copy, because the original changes hands when TLS begins.
            self._socket = socket.socket(fileno=os.dup(number))
            self._deadline = time.monotonic() + self._seconds
            if self._cut:
                self._shut()

    def allow(self, seconds: float) -> None:
        """Give what comes next so many seconds."""
        self._deadline = time.monotonic() + seconds

    def cut(self) -> None:
        """End whatever is being read or written."""
        with self._lock:
            self._cut = True
            self._shut()

    def look(self, now: float) -> None:
        """Cut it if it is late."""
        if now > self._deadline and not self._cut:
            self.expired = True
            self.cut()

    def close(self) -> None:
        """Let go of the socket."""
        with self._lock:
            self._release()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Lines:
    """The lines of several threads."""

    def __init__(self) -> None:
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        self._watched = False
        self._ended = False

    @contextmanager
    def line(self, seconds: float) -> Iterator[Line]:
        """A line for the requests that this thread makes inside the block."""
        line = Line(seconds)
        with self._lock:
            self._lines.add(line)
            if self._ended:
                line.cut()
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="fetch-watch", daemon=True).start()
        _HERE.line = line
        try:
            yield line
        finally:
            _HERE.line = None
            with self._lock:
                self._lines.discard(line)
            line.close()

    def end(self) -> None:
        """Cut all lines, and every later one."""
        with self._lock:
            self._ended = True
            for line in self._lines:
                line.cut()

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK)
            with self._lock:
                if not self._lines:
                    self._watched = False
                    return
                now = time.monotonic()
                for line in self._lines:
                    line.look(now)


def _hold(sock: Any) -> None:
    line: Line | None = getattr(_HERE, "line", None)
    if line is not None and sock is not None:
        line.hold(sock.fileno())


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _hold(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        # One that is used again is connected already.
        _hold(self.sock)
        super().request(*args, **kwargs)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _hold(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        _hold(self.sock)
        super().request(*args, **kwargs)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _use_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            _use_pools(manager)
        return manager


def _use_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class Session(requests.Session):
    """A session without credentials that follows no redirect: who asks does, and checks each.

    Args:
        parallel: connections a host.
    """

    def __init__(self, parallel: int) -> None:
        super().__init__()
        # Without this, requests would send what a .netrc holds for the host.
        self.auth = lambda request: request
        self.headers["User-Agent"] = f"voxseq/{__version__}"
        # Compressing what is compressed helps nobody, and ranges of it could not be joined.
        self.headers["Accept-Encoding"] = "identity"
        adapter = _Adapter(pool_connections=8, pool_maxsize=parallel)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect, however long."""
        return
