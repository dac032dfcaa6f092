"""HTTP requests: redirects, retries, least speed, and headers that a server may write as it likes.

urllib3's ``Retry`` covers the headers of an answer, not a body that breaks off after hours; so the
loop of retries is here, around both. An address is tried again after time-outs, broken connections
and the answers 408, 429 and 5xx, with exponential back-off and as late as ``Retry-After`` asks; any
other answer is final.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from voxseq.base.errors import DataError
from voxseq.fetch.meter import in_words
from voxseq.fetch.wire import Line, Session, Stopped

__all__ = ["Answer", "Client", "RetryPolicy", "Stopped", "TransientError", "UnreachableError"]

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
_TRANSIENT = {408, 429, 500, 502, 503, 504}
_CHUNK = 1 << 18
_MOST_REDIRECTS = 10
#: Longest answer that is read into memory.
_LONGEST_TEXT = 1 << 26
#: Bytes between two failures after which a server counts as working and attempts as unused.
_PROGRESS = 1 << 20
#: Digits of a number of bytes; more are no such number.
_DIGITS = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
#: A strong ETag and a date, RFC 9110, sections 8.8.3 and 5.6.7. Others could not be sent back.
_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,1000}"')
_DATE = re.compile(r"[A-Za-z0-9 ,:+-]{10,60}")


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts, back-off, timeouts and least speed.

    Attributes:
        attempts: tries in a row without progress.
        first: seconds before the second try; doubled with each one.
        longest: most seconds before a try; a server that asks for more is given up.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes; with ``connect``, for all headers together.
        least: least bytes per second.
        window: seconds over which ``least`` is measured.
    """

    attempts: int = 6
    first: float = 2.0
    longest: float = 300.0
    connect: float = 20.0
    read: float = 60.0
    least: float = 5000.0
    window: float = 60.0


class TransientError(Exception):
    """A failure that may pass; ``after`` is the wait that the server asks for, in seconds."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        self.after = after
        super().__init__(reason)


class UnreachableError(DataError):
    """A server that gave no useful answer in all attempts."""


class Answer:
    """An answer whose headers have arrived, and whose body follows."""

    def __init__(
        self, response: requests.Response, session: Session, line: Line, retry: RetryPolicy
    ) -> None:
        self.status = response.status_code
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self._raw = response.raw
        self._session = session
        self._line = line
        self._retry = retry

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they are sent.

        Raises:
            TransientError: the connection breaks, or is too slow.
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
            if waited >= self._retry.window:
                if came < self._retry.least * waited:
                    raise TransientError(f"only {in_words(came)} came in {waited:.0f} s")
                waited, came = 0.0, 0

    def _read(self) -> bytes:
        """The bytes that are there, without waiting for more; b"" at the end."""
        # Twice: the socket itself notices silence before.
        seconds = 2 * self._retry.read
        self._line.allow(seconds)
        chunk, broken = b"", ""
        try:
            chunk = self._raw.read1(_CHUNK, decode_content=False) or b""
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            broken = f"the connection broke ({type(error).__name__})"
        # A connection that was cut looks like the end of a file of unknown length.
        self._session.check()
        if self._line.expired:
            broken = f"no piece of the answer was whole within {seconds:g} s"
        if broken:
            raise TransientError(broken)
        return chunk


class Client:
    """Reads addresses without credentials, from several threads at once; a context manager.

    Args:
        parallel: connections per host.
        retry: when to try again.
    """

    def __init__(self, parallel: int = 2, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self._session = Session(parallel)
        self.stop = self._session.stop
        #: Raises :class:`Stopped` when the work is to end.
        self.check = self._session.check

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        # Stops all threads, also those that wait for a server.
        self.stop.set()

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, has_checksum: bool = False
    ) -> Iterator[Answer]:
        """Ask once; the connection is closed at the end of the block.

        Args:
            url: the address.
            headers: of the request.
            has_checksum: whether a checksum shows that the bytes are right, whatever their way.

        Raises:
            TransientError: it may succeed later.
            DataError: it will not.
            Stopped: the work is to end.
        """
        with self._session.line(self._retry.connect + self._retry.read) as line:
            response = self._follow(url, headers or {}, has_checksum, line)
            answer = Answer(response, self._session, line, self._retry)
            try:
                _require_success(answer, url, "Range" in (headers or {}))
                yield answer
            finally:
                response.close()

    def _follow(
        self, url: str, headers: Mapping[str, str], has_checksum: bool, line: Line
    ) -> requests.Response:
        place = url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(place, url, headers, line)
            if not response.is_redirect:
                return response
            response.close()
            place = _redirected(place, response.headers["Location"], url, has_checksum)
        raise DataError(
            f"{url}: is redirected more than {_MOST_REDIRECTS} times",
            "open the address in a browser: it may ask for an account or a login",
        )

    def _ask(
        self, place: str, url: str, headers: Mapping[str, str], line: Line
    ) -> requests.Response:
        connect, read = self._retry.connect, self._retry.read
        response, broken = None, ""
        try:
            response = self._session.get(
                place,
                headers=dict(headers),
                stream=True,
                timeout=(connect, read),
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
            broken = f"the headers of the answer were not complete within {connect + read:g} s"
        if response is not None and not broken and not self.stop.is_set():
            return response
        # Headers that were cut look complete.
        if response is not None:
            response.close()
        self.check()
        raise TransientError(broken)

    def retrying(
        self, url: str, action: Callable[[], T], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Repeat ``action`` after transient failures; ``progress`` counts the bytes so far.

        Raises:
            UnreachableError: all attempts failed.
        """
        failures = 0
        while True:
            self.check()
            before = progress()
            try:
                return action()
            except TransientError as error:
                failures = 1 if progress() - before >= _PROGRESS else failures + 1
                self.stop.wait(self._delay(url, error, failures))

    def _delay(self, url: str, error: TransientError, failures: int) -> float:
        """Seconds to wait before the next attempt."""
        longest = self._retry.longest
        if failures >= self._retry.attempts or error.after > longest:
            more = f", asks to wait {error.after:.0f} s" if error.after > longest else ""
            raise UnreachableError(
                f"{url}: {error}{more}; given up after {failures} attempts",
                "check the network and run the same command again later: it continues where it "
                "stopped",
            )
        delay = max(error.after, min(self._retry.first * 2 ** (failures - 1), longest))
        _LOG.info("%s: %s; next attempt in %.0f s", url, error, delay)
        return delay

    def text(self, url: str) -> bytes:
        """The whole answer of an address.

        Raises:
            DataError: the answer is an error or too long, or none comes.
        """

        def read() -> bytes:
            content = bytearray()
            with self.get(url) as answer:
                for chunk in answer.chunks():
                    content += chunk
                    if len(content) > _LONGEST_TEXT:
                        raise DataError(
                            f"{url}: the answer is longer than {in_words(_LONGEST_TEXT)}",
                            "compare the address with its publisher's page",
                        )
            return bytes(content)

        return self.retrying(url, read)

    def size(self, url: str, *, has_checksum: bool) -> int | None:
        """Bytes that the server states for a file, without fetching it; None where it does not.

        Raises:
            DataError: as :meth:`text`.
        """

        def ask() -> int | None:
            # A GET that is closed at once: some servers answer HEAD with nothing or an error.
            with self.get(url, has_checksum=has_checksum) as answer:
                return content_length(answer.headers, url)

        return self.retrying(url, ask)


def _redirected(place: str, location: str, url: str, has_checksum: bool) -> str:
    """The address that a redirect names.

    Raises:
        DataError: it leaves the encrypted way, and no checksum shows whether the file is right.
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
    if schemes == ("https", "http") and not has_checksum:
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
    reason = "".join(c for c in answer.reason if c.isprintable())[:80]
    said = f"the server answers {status} {reason}".rstrip()
    if status in _TRANSIENT:
        raise TransientError(said, _retry_after(answer.headers))
    raise DataError(
        f"{url}: {said}",
        "this will not pass by itself: look at the publisher's page whether the file has "
        "moved or needs an account (`voxseq data show` names the page)",
    )


def whole_number(text: str) -> int | None:
    """A number of plain digits, None for anything else."""
    stripped = text.strip()
    return int(stripped) if _DIGITS.fullmatch(stripped) else None


def content_length(headers: Mapping[str, str], url: str) -> int | None:
    """Bytes that follow; None where the server does not say.

    Raises:
        DataError: it states no number of bytes, so nobody knows where the answer ends.
    """
    stated = headers.get("Content-Length")
    # In chunks, the answer itself says where it ends (RFC 9112, section 6.3).
    if stated is None or "chunked" in headers.get("Transfer-Encoding", "").lower():
        return None
    numbers = {whole_number(part) for part in stated.split(",")}
    length = numbers.pop() if len(numbers) == 1 else None
    if length is None:
        raise DataError(
            f"{url}: the server states the length {shortened(stated)}, which is no number of bytes",
            "try again later; when it stays so, tell the publisher, or obtain the file by hand",
        )
    return length


def content_range(headers: Mapping[str, str]) -> tuple[int, int | None] | None:
    """First byte of a part, and bytes of the whole where known; None for an invalid range."""
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return (int(found[1]), whole_number(found[2])) if found else None


def validator(headers: Mapping[str, str]) -> str:
    """ETag or date that shows whether the file is still the same; "" where neither is usable."""
    etag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return etag if _ETAG.fullmatch(etag) else date if is_validator(date) else ""


def is_validator(text: str) -> bool:
    """Whether ``text`` can be sent back as the condition of a request."""
    return bool(_ETAG.fullmatch(text) or _DATE.fullmatch(text))


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 where it does not, or not legibly."""
    # No date is longer, and a number of so many digits is more than anybody waits.
    stated = headers.get("Retry-After", "")[:30]
    try:
        return float(urllib3.Retry().parse_retry_after(stated))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def shortened(text: str, most: int = 40) -> str:
    """A server's words, for a message: without control characters, and never long."""
    return repr(text if len(text) <= most else f"{text[:most]}…")
