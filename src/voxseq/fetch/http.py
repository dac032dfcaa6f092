"""HTTP without credentials: redirects, retries, least speed, and a request to stop.

urllib3's ``Retry`` covers the headers of an answer, not a body that breaks off after hours; so the
loop of retries is here, around both. An address is tried again after timeouts, broken connections
and the answers 408, 429 and 5xx, with exponential back-off and as late as ``Retry-After`` asks; any
other answer is final.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from voxseq import __version__
from voxseq.base.errors import DataError
from voxseq.fetch.meter import in_words
from voxseq.fetch.stream import RetryPolicy, Stopped, TimedAdapter, TransientError

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
# It logs headers that it cannot parse with a traceback; those that matter raise an error here.
logging.getLogger("urllib3").setLevel(logging.ERROR)
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
#: A strong ETag or a date, RFC 9110, sections 8.8.3 and 5.6.7. Others could not be sent back.
_VALIDATOR = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,1000}"|[A-Za-z0-9 ,:+-]{10,60}')
_PAGE = "compare the address with its publisher's page"


class UnreachableError(DataError):
    """A server that gave no useful answer in all attempts."""


class _Session(requests.Session):
    """A session without credentials that follows no redirect: the caller checks and follows each.

    Args:
        adapter: for all addresses.
    """

    def __init__(self, adapter: TimedAdapter) -> None:
        super().__init__()
        # Without this, requests would send the password of a .netrc.
        self.auth = lambda request: request
        self.headers["User-Agent"] = f"voxseq/{__version__}"
        # Archives are compressed already, and ranges of a compressed answer cannot be joined.
        self.headers["Accept-Encoding"] = "identity"
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would read the whole body of a redirect, however long."""
        return


class Client:
    """Reads addresses from several threads at once, until ``stop`` is set.

    Args:
        parallel: connections per host.
        retry: when to try again.
    """

    def __init__(self, parallel: int = 2, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self.stop = threading.Event()
        self._session = _Session(TimedAdapter(parallel, self._retry, self.stop))

    def check(self) -> None:
        """Raise :class:`Stopped` when the work is to end."""
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, has_checksum: bool = False
    ) -> Iterator[requests.Response]:
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
        place = url
        for _ in range(_MOST_REDIRECTS + 1):
            with self._ask(place, url, headers or {}) as response:
                if not response.is_redirect:
                    _require_success(response, url, has_range="Range" in (headers or {}))
                    yield response
                    return
                place = _redirected(place, response.headers["Location"], url, has_checksum)
        raise DataError(
            f"{url}: is redirected more than {_MOST_REDIRECTS} times",
            "open the address in a browser: it may ask for an account or a login",
        )

    def _ask(self, place: str, url: str, headers: Mapping[str, str]) -> requests.Response:
        timeouts = self._retry.connect, self._retry.read
        self.check()
        try:
            return self._session.get(
                place, headers=dict(headers), stream=True, timeout=timeouts, allow_redirects=False
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            broken = f"no answer ({type(error).__name__})"
        # An address that nobody can ask for, or certificates that this machine lacks.
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            said = shortened(str(error), 300)
            raise DataError(f"{url}: cannot be asked for ({said})", _PAGE) from None
        raise TransientError(broken)

    def retrying(
        self, url: str, action: Callable[[], T], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """Repeat ``action`` after transient failures; ``progress`` counts the bytes so far.

        Raises:
            UnreachableError: all attempts failed.
        """
        failures, longest = 0, self._retry.longest
        while True:
            self.check()
            before = progress()
            try:
                return action()
            except TransientError as error:
                failures = 1 if progress() - before >= _PROGRESS else failures + 1
                if failures >= self._retry.attempts or error.after > longest:
                    more = f", asks to wait {error.after:.0f} s" if error.after > longest else ""
                    raise UnreachableError(
                        f"{url}: {error}{more}; given up after {failures} attempts",
                        "check the network and run the same command again later: it continues "
                        "where it stopped",
                    ) from None
                delay = max(error.after, min(self._retry.first * 2 ** (failures - 1), longest))
                _LOG.info("%s: %s; next attempt in %.0f s", url, error, delay)
                self.stop.wait(delay)

    def text(self, url: str) -> bytes:
        """The whole answer of an address.

        Raises:
            DataError: the answer is an error or too long, or none comes.
        """

        def read() -> bytes:
            content = bytearray()
            with self.get(url) as answer:
                for chunk in chunks(answer):
                    content += chunk
                    if len(content) > _LONGEST_TEXT:
                        most = in_words(_LONGEST_TEXT)
                        raise DataError(f"{url}: the answer is longer than {most}", _PAGE)
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


def chunks(answer: requests.Response) -> Iterator[bytes]:
    """The body as it is sent, without waiting for more than is there.

    Raises:
        TransientError: the connection breaks, or is too slow.
        Stopped: the work is to end.
    """
    while True:
        chunk, broken = b"", ""
        try:
            chunk = answer.raw.read1(_CHUNK, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            broken = f"the connection broke ({type(error).__name__})"
        # Outside of the handler: the context of this error must not pass for the disk's.
        if broken:
            raise TransientError(broken)
        if not chunk:
            return
        yield chunk


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
        said = f"is redirected to {shortened(location)}, which is no address"
        raise DataError(f"{url}: {said}", _PAGE) from None
    if schemes == ("https", "http") and not has_checksum:
        raise DataError(
            f"{url}: is redirected from https to {shortened(target, 200)}, where anybody on the "
            "way could change it, and no checksum vouches for it",
            "look at the publisher's page for another address (`voxseq data show` names it), or "
            "obtain the file by hand",
        )
    return target


def _require_success(answer: requests.Response, url: str, *, has_range: bool) -> None:
    status = answer.status_code
    if status == OK or (has_range and status in (PARTIAL, UNSATISFIABLE)):
        return
    reason = "".join(c for c in answer.reason or "" if c.isprintable())[:80]
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
    stated = (headers.get("ETag", ""), headers.get("Last-Modified", ""))
    return next((text for text in stated if is_validator(text)), "")


def is_validator(text: str) -> bool:
    """Whether ``text`` can be sent back as the condition of a request."""
    return _VALIDATOR.fullmatch(text) is not None


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
