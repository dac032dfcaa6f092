"""Answers whose bytes must come in time, and reads that end when the work is asked to stop.

A socket's timeout does not end a server that drips bytes: it could keep a header, the size of a
chunk or a trailer going for ever.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from voxseq.fetch.meter import in_words


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts, back-off, timeouts and least speed.

    Attributes:
        attempts: tries in a row without progress.
        first: seconds before the second try; doubled with each one.
        longest: most seconds before a try; a server that asks for more is given up.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes; with ``connect``, for all headers together.
        least: least bytes per second of a body.
        window: seconds over which ``least`` is measured.
    """

    attempts: int = 6
    first: float = 2.0
    longest: float = 300.0
    connect: float = 20.0
    read: float = 60.0
    least: float = 5000.0
    window: float = 60.0


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The work was asked to end; partial files are kept."""


class TransientError(Exception):
    """A failure that may pass; ``after`` is the wait that the server asks for, in seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        self.after = after
        super().__init__(reason)


class _Stream(io.RawIOBase):
    """The bytes of one answer."""

    def __init__(self, raw: io.RawIOBase, retry: RetryPolicy, stop: threading.Event) -> None:
        self._raw = raw
        self._retry = retry
        self._stop = stop
        self._headers_until = time.monotonic() + retry.connect + retry.read
        self.in_headers = True
        self._waited, self._came = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        count = self._raw.readinto(buffer)
        now = time.monotonic()
        if self._stop.is_set():
            raise Stopped
        if self.in_headers:
            if now > self._headers_until:
                seconds = self._retry.connect + self._retry.read
                raise TransientError(
                    f"the headers of the answer were not complete within {seconds:g} s"
                )
            return count
        # Only the server's time counts: a slow disk here is not its fault.
        self._waited += now - began
        self._came += count or 0
        if self._waited >= self._retry.window:
            if self._came < self._retry.least * self._waited:
                raise TransientError(f"only {in_words(self._came)} came in {self._waited:.0f} s")
            self._waited, self._came = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """Reads through a :class:`_Stream`."""

    def __init__(
        self, retry: RetryPolicy, stop: threading.Event, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._stream = _Stream(self.fp.detach(), retry, stop)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        self._stream.in_headers = False


class TimedAdapter(HTTPAdapter):
    """Makes connections whose answers are timed."""

    def __init__(self, parallel: int, retry: RetryPolicy, stop: threading.Event) -> None:
        super().__init__(pool_connections=8, pool_maxsize=parallel)
        self._response = partial(_TimedResponse, retry, stop)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """As the base class, with another class of connections."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        plain: Any = HTTPSConnection if pool.scheme == "https" else HTTPConnection
        if pool.ConnectionCls is plain:
            pool.ConnectionCls = type("Timed", (plain,), {"response_class": self._response})
        return pool
