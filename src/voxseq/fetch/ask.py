"""One request at a time: its redirects, how long it may take, and that it can be stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from voxseq.base.errors import DataError
from voxseq.fetch.headers import retry_after, shortened, whole_number
from voxseq.fetch.meter import in_words
from voxseq.fetch.wire import Line, Lines, Session

_CHUNK = 1 << 18
_MOST_REDIRECTS = 10
_MOST_DRAINED = 1 << 16
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
_PASSING = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How often and how late an address is tried again, and how slow it may be.

    Attributes:
        attempts: tries in a row without progress.
        first: seconds before the second try; doubled with each one.
        longest: most seconds before a try; a server that asks for more is given up.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes; with ``connect``, for all headers together.
        least: fewest bytes a second.
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
    """The work was asked to end; what has arrived is kept."""


class Again(Exception):  # noqa: N818 - handled by whoever asks
    """A failure that may pass; ``after`` is what the server asks to wait, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


class Answer:
    """An answer whose headers have come, and whose body follows."""

    def __init__(
        self, response: requests.Response, line: Line, patience: Patience, stop: threading.Event
    ) -> None:
        self.status = response.status_code
        self.reason: str = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self._raw = response.raw
        self._line = line
        self._patience = patience
        self._stop = stop

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they are sent.

        Raises:
            Again: the connection breaks, or too little comes.
            Stopped: the work is to end.
        """
        waited, came = 0.0, 0
        while True:
            began = time.monotonic()
            chunk = self._read()
            # Only the server's time counts: a slow disk here is not its fault.
            waited += time.monotonic() - began
            if not chunk:
                return
            came += len(chunk)
            yield chunk
            if waited >= self._patience.window:
                if came < self._patience.least * waited:
                    raise Again(f"only {in_words(came)} came in {waited:.0f} s")
                waited, came = 0.0, 0

    def drain(self) -> None:
        """Read a short body that nobody needs: the server may go on with the same connection."""
        if (whole_number(self.headers.get("Content-Length", "")) or _MOST_DRAINED) < _MOST_DRAINED:
            with suppress(Again):
                for _ in self.chunks():
                    pass

    def _read(self) -> bytes:
        """What is there, without waiting for more; b"" at the end."""
        # Twice: silence is noticed before, by the socket itself.
        self._line.allow(2 * self._patience.read)
        chunk, broken = b"", ""
        try:
            if not self._stop.is_set():
                chunk = self._raw.read1(_CHUNK, decode_content=False) or b""
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            broken = type(error).__name__
        # A connection that was cut looks like the end of a file of unknown length.
        if self._stop.is_set():
            raise Stopped
        if self._line.expired:
            raise Again(f"no piece of the answer was whole within {2 * self._patience.read:g} s")
        if broken:
            raise Again(f"the connection broke ({broken})")
        return chunk


class Asker:
    """Asks for addresses without credentials, from several threads at once.

    Args:
        parallel: connections a host.
        patience: how long an answer may take.
    """

    def __init__(self, parallel: int, patience: Patience) -> None:
        self.stop = threading.Event()
        self._patience = patience
        self._lines = Lines()
        self._session = Session(parallel)

    def end(self) -> None:
        """Stop all threads, also those that wait for a server."""
        self.stop.set()
        self._lines.end()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], vouched: bool) -> Iterator[Answer]:
        """Ask once; the connection is closed at the end of the block.

        Args:
            url: the address.
            headers: what is asked for.
            vouched: whether a checksum tells if the right bytes come, whatever way they take.

        Raises:
            Again: it may succeed later.
            DataError: it will not.
            Stopped: the work is to end.
        """
        patience = self._patience
        with self._lines.line(patience.connect + patience.read) as line:
            response = self._follow(url, headers, vouched, line)
            answer = Answer(response, line, patience, self.stop)
            try:
                _require_success(answer, url, "Range" in headers)
                yield answer
            finally:
                response.close()

    def _follow(
        self, url: str, headers: Mapping[str, str], vouched: bool, line: Line
    ) -> requests.Response:
        place = url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(place, url, headers, line)
            if not response.is_redirect:
                return response
            Answer(response, line, self._patience, self.stop).drain()
            response.close()
            place = _next_place(place, response.headers["Location"], url, vouched)
        raise DataError(
            f"{url}: is redirected more than {_MOST_REDIRECTS} times",
            "open the address in a browser: it may ask for an account or a login",
        )

    def _ask(
        self, place: str, url: str, headers: Mapping[str, str], line: Line
    ) -> requests.Response:
        patience = self._patience
        response: requests.Response | None = None
        broken = ""
        try:
            response = self._session.get(
                place,
                headers=dict(headers),
                stream=True,
                timeout=(patience.connect, patience.read),
                allow_redirects=False,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            broken = f"no answer ({type(error).__name__})"
        # An address that nobody can ask for, or certificates that this machine lacks.
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            raise DataError(
                f"{url}: cannot be asked for ({shortened(str(error), 300)})",
                "compare the address with its publisher's page",
            ) from None
        if line.expired:
            seconds = patience.connect + patience.read
            broken = f"the headers of the answer were not complete within {seconds:g} s"
        if response is not None and not broken and not self.stop.is_set():
            return response
        # Headers that were cut look complete.
        if response is not None:
            response.close()
        if self.stop.is_set():
            raise Stopped
        raise Again(broken)


def _next_place(place: str, location: str, url: str, vouched: bool) -> str:
    """The address that a redirect names.

    Raises:
        DataError: it leaves the encrypted way, and nothing else vouches for the file.
    """
    try:
        # Servers write UTF-8, which http.client takes for Latin-1.
        target = urljoin(place, location.encode("latin-1").decode("utf-8"))
        schemes = urlsplit(place).scheme, urlsplit(target).scheme
    except ValueError:
        raise DataError(
            f"{url}: is redirected to {shortened(location)}, which is no address",
            "compare the address with its publisher's page",
        ) from None
    if schemes == ("https", "http") and not vouched:
        raise DataError(
            f"{url}: is redirected from https to {shortened(target, 200)}, where anybody on the "
            "way could change it, and no checksum vouches for it",
            "look at the publisher's page for another address (`voxseq data show` names it), or "
            "obtain the file by hand",
        )
    return target


def _require_success(answer: Answer, url: str, has_range: bool) -> None:
    status = answer.status
    if status == OK or (has_range and status in (PARTIAL, UNSATISFIABLE)):
        return
    answer.drain()
    reason = "".join(c for c in answer.reason if c.isprintable())[:80]
    said = f"the server answers {status} {reason}".rstrip()
    if status in _PASSING:
        raise Again(said, retry_after(answer.headers))
    raise DataError(
        f"{url}: {said}",
        "this will not pass by itself: look at the publisher's page whether the file has "
        "moved or needs an account (`voxseq data show` names the page)",
    )
