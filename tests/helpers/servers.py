"""A web server on this machine that behaves as it is told, well or badly."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


@dataclass
class Page:
    """What lies at an address, and how it is served.

    Attributes:
        content: the bytes.
        validators: whether ETag and Last-Modified are stated.
        ranges: whether ranges are served.
        if_range: whether If-Range is honoured.
        length: whether Content-Length is stated; without it the end of the connection is the end.
        block, pause: bytes after which the server sleeps so many seconds.
    """

    content: bytes
    validators: bool = True
    ranges: bool = True
    if_range: bool = True
    length: bool = True
    block: int = 0
    pause: float = 0.0

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


@dataclass
class Fault:
    """What one request meets instead of a good answer.

    Attributes:
        status: an error with this number and these headers; 0 for none.
        drop: bytes of the answer after which the connection is cut.
        reset: whether it is reset instead of closed.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    drop: int | None = None
    reset: bool = False


@dataclass
class Request:
    """What the server was asked."""

    path: str
    headers: dict[str, str]
    at: float


class Server:
    """Pages by path, with faults that the next requests of a path meet, in order."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[Request] = []
        self.base = ""

    def put(self, path: str, content: bytes, **how: object) -> str:
        """Serve ``content``; returns the address."""
        self.pages[path] = Page(content, **how)  # type: ignore[arg-type]
        return f"{self.base}{path}"

    def ranges(self) -> list[str]:
        """The Range header of each request so far, "" for none."""
        return [request.headers.get("range", "") for request in self.requests]


@contextmanager
def running() -> Iterator[Server]:
    """A server on a free port of this machine."""
    shelf = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            shelf.requests.append(Request(path, headers, time.monotonic()))
            faults = shelf.faults.get(path) or [Fault()]
            # The last one stays when it is an error marked as such by being the only one left.
            fault = faults.pop(0) if len(faults) > 1 or not faults[0].status else faults[0]
            page = shelf.pages.get(path)
            if fault.status or page is None:
                self._refuse(fault.status or 404, fault.headers)
            else:
                self._answer(page, headers, fault)

        def _refuse(self, status: int, extra: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in extra.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"sorry")

        def _answer(self, page: Page, headers: dict[str, str], fault: Fault) -> None:
            start = self._first(page, headers)
            if start >= len(page.content) and start:
                self._refuse(416, {"Content-Range": f"bytes */{len(page.content)}"})
                return
            body = page.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last, total = len(page.content) - 1, len(page.content)
                self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
            if page.validators:
                self.send_header("ETag", page.etag)
            if page.length:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            self._send(page, body[: fault.drop])
            if fault.drop is not None:
                self._cut(fault.reset)

        def _first(self, page: Page, headers: dict[str, str]) -> int:
            asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
            if not asked or not page.ranges:
                return 0
            if page.if_range and headers.get("if-range", page.etag) != page.etag:
                return 0
            return int(asked[1])

        def _send(self, page: Page, body: bytes) -> None:
            block = page.block or max(len(body), 1)
            try:
                for first in range(0, len(body), block):
                    self.wfile.write(body[first : first + block])
                    time.sleep(page.pause)
            except OSError:
                # The other side was killed.
                self.close_connection = True

        def _cut(self, reset: bool) -> None:
            self.close_connection = True
            self.wfile.flush()
            if reset:
                # The client has read by then; a reset would take what it has not.
                time.sleep(0.2)
                no_linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                self.connection.close()
                return
            self.connection.shutdown(socket.SHUT_RDWR)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        # A client that cuts a connection is no error of the server.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        shelf.base = f"http://127.0.0.1:{server.server_port}"
        yield shelf
        server.shutdown()
        thread.join()
