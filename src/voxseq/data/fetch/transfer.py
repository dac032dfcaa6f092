"""Files over HTTP that survive interruptions.

pooch, the usual choice for checked downloads, starts from the first byte when a transfer breaks
off, as do fsspec's ``get`` and the plain use of ``requests``; an archive here has up to 37 GB. So
this is a thin layer over ``requests``: it asks for the missing range, and only of the same file
(``If-Range``, RFC 9110, section 13.1.5). An address is tried again after time-outs, broken
connections and the answers 408, 429 and 5xx, ever more slowly, and as late as ``Retry-After`` asks;
any other answer is final.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter

from voxseq import __version__
from voxseq.data.fetch.checksum import verify
from voxseq.data.fetch.meter import Meter, in_words
from voxseq.errors import DataError, IntegrityError, ResourceError
from voxseq.faults import existing, full_code
from voxseq.files import write_json

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
_CHUNK = 1 << 18
#: Bytes between two failures after which a server counts as working and attempts as unused.
_PROGRESS = 1 << 20
#: Smallest file that is continued; of a smaller one, fetching costs less than remembering.
_WORTH_CONTINUING = 1 << 20
#: Longest answer that is read into memory.
_LONGEST_TEXT = 1 << 26
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_PASSING = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How often and how late an address is tried again.

    Attributes:
        attempts: tries in a row without progress.
        first: seconds before the second try; doubled with each one.
        longest: most seconds before a try; a server that asks for more is given up.
        connect: seconds to wait for a connection.
        read: seconds to wait for the next bytes.
    """

    attempts: int = 6
    first: float = 2.0
    longest: float = 300.0
    connect: float = 20.0
    read: float = 60.0


@dataclass(frozen=True)
class Remote:
    """An address with what its content must be; see :class:`RemoteFile`."""

    url: str
    size: int | None = None
    checksum: str = ""


class UnreachableError(DataError):
    """A server that did not answer, or not usefully, however often it was asked."""


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """The work was asked to end; what has arrived is kept."""


class _Again(Exception):  # noqa: N818 - handled here
    """A failure that may pass; ``after`` is what the server asks to wait, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(reason)


@dataclass(frozen=True)
class _Note:
    """What is known about the file of which a ``.part`` holds the beginning."""

    url: str
    validator: str
    total: int | None

    @classmethod
    def read(cls, part: Path) -> _Note | None:
        try:
            return cls(**json.loads(_beside(part).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, part: Path) -> None:
        write_json(_beside(part), asdict(self))


def discard(part: Path) -> None:
    """Remove the beginning of a file."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Make sure that ``needed`` bytes fit on the disk of ``folder``.

    Raises:
        ResourceError: they do not.
    """
    free = shutil.disk_usage(existing(folder)).free
    if needed > free:
        raise ResourceError(
            f"{what} needs {in_words(needed)}, {folder} has {in_words(free)} free",
            "free some space, or choose another disk with --root or VOXSEQ_DATA; what has "
            "arrived is kept",
        )


def disk_error(path: Path, error: OSError) -> ResourceError:
    """The error for a file that cannot be written."""
    if full_code(error) is not None:
        return ResourceError(
            f"{path}: the disk is full ({error.strerror})",
            "free some space and run the same command again: it continues where it stopped",
        )
    return ResourceError(
        f"{path}: cannot be written ({error.strerror or error})",
        "make that place writable, or choose another with --root or VOXSEQ_DATA",
    )


class Client:
    """Reads addresses without credentials, from several threads at once.

    Args:
        parallel: connections a host.
        patience: how often an address is tried again.
    """

    def __init__(self, parallel: int = 2, patience: Patience | None = None) -> None:
        self.stop = threading.Event()
        self._patience = patience or Patience()
        self._session = requests.Session()
        # Without this, requests would send what a .netrc holds for the host.
        self._session.auth = lambda request: request
        self._session.headers["User-Agent"] = f"voxseq/{__version__}"
        # Compressing what is compressed helps nobody, and ranges of it could not be joined.
        self._session.headers["Accept-Encoding"] = "identity"
        adapter = HTTPAdapter(pool_connections=8, pool_maxsize=parallel)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def text(self, url: str) -> bytes:
        """The whole answer of an address.

        Raises:
            DataError: the answer is an error, or none comes (:class:`UnreachableError`).
        """

        def read() -> bytes:
            with self._get(url, {}) as response:
                content = b""
                for chunk in self._chunks(response):
                    content += chunk
                    if len(content) > _LONGEST_TEXT:
                        raise DataError(f"{url}: the answer is longer than {_LONGEST_TEXT} bytes")
                return content

        return self._patiently(url, read, lambda: 0)

    def size(self, url: str) -> int | None:
        """Bytes that the server states for an address, without fetching it; None where it does not.

        Raises:
            DataError: as :meth:`text`.
        """

        def ask() -> int | None:
            # A GET that is closed at once: some servers answer HEAD with nothing or an error.
            with self._get(url, {}) as response:
                return _total(response, 0)

        return self._patiently(url, ask, lambda: 0)

    def download(self, remote: Remote, part: Path, meter: Meter) -> str:
        """Fetch a file into ``part``, continuing what is there; returns its checksum.

        Raises:
            DataError: the server refuses, or no answer comes (:class:`UnreachableError`).
            ResourceError: the disk is full. In both cases what has arrived stays in ``part``.
            IntegrityError: the file is not the expected one; ``part`` is removed.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        joined = self._complete(remote, part, meter, joining=True)
        try:
            return _verified(remote, part, meter)
        except IntegrityError as error:
            if not joined:
                raise
            _LOG.warning("%s; it came in pieces, so it is fetched once more", error.what)
        self._complete(remote, part, meter, joining=False)
        return _verified(remote, part, meter)

    def _complete(self, remote: Remote, part: Path, meter: Meter, *, joining: bool) -> bool:
        """Receive until the file is whole; returns whether it was joined from pieces."""
        joined = False

        def receive() -> None:
            nonlocal joined
            joined = self._receive(remote, part, meter, joining) or joined

        self._patiently(remote.url, receive, lambda: _size(part))
        return joined

    def _receive(self, remote: Remote, part: Path, meter: Meter, joining: bool) -> bool:
        note = _Note.read(part)
        if not _usable(note, remote, joining):
            meter.add(-_size(part))
            discard(part)
            note = None
        have = _size(part) if note else 0
        if note and have and note.total == have:
            return True
        headers = {"Range": f"bytes={have}-"} if have else {}
        if note and have and note.validator:
            headers["If-Range"] = note.validator
        with self._get(remote.url, headers) as response:
            if response.status_code == _UNSATISFIABLE:
                discard(part)
                meter.add(-have)
                raise _Again(f"has no byte {have} any more")
            start = _start(response, have, note, part, meter)
            total = _total(response, start)
            _check_offer(remote, total)
            if total is not None:
                require_space(part.parent, total - start, remote.url)
            if start == 0:
                # Else a kill at this point would leave the note of one file beside another's part.
                discard(part)
            if total is None or total >= _WORTH_CONTINUING:
                _Note(remote.url, _validator(response), total).write(part)
            self._append(response, part, start, meter)
        if total is not None and _size(part) != total:
            raise _Again(f"the connection ended after {_size(part)} of {total} bytes")
        return start > 0

    def _append(self, response: requests.Response, part: Path, start: int, meter: Meter) -> None:
        try:
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for chunk in self._chunks(response):
                    file.write(chunk)
                    meter.add(len(chunk))
        except OSError as error:
            raise disk_error(part, error) from None

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The raw bytes; errors of the connection become :class:`_Again`."""
        stream = response.raw.stream(_CHUNK, decode_content=False)
        while True:
            if self.stop.is_set():
                raise Stopped
            try:
                chunk: bytes | None = next(stream, None)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise _Again(f"the connection broke ({type(error).__name__})") from None
            if chunk is None:
                return
            yield chunk

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Ask once; answers that are no success are raised."""
        timeout = (self._patience.connect, self._patience.read)
        try:
            response = self._session.get(url, headers=headers, stream=True, timeout=timeout)
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _Again(f"no answer ({type(error).__name__})") from None
        except (requests.RequestException, ValueError) as error:
            raise DataError(
                f"{url}: {error}", "compare the address with its publisher's page"
            ) from None
        status = response.status_code
        wanted = {_OK, _PARTIAL, _UNSATISFIABLE} if "Range" in headers else {_OK}
        if status in wanted:
            return response
        response.close()
        said = f"the server answers {status} {response.reason}".rstrip()
        if status in _PASSING:
            raise _Again(said, _retry_after(response))
        raise DataError(
            f"{url}: {said}",
            "this will not pass by itself: look at the publisher's page whether the file has "
            "moved or needs an account (`voxseq data show` names the page)",
        )

    def _patiently(self, url: str, action: Callable[[], T], progress: Callable[[], int]) -> T:
        """Repeat ``action`` after failures that may pass."""
        failures = 0
        while True:
            if self.stop.is_set():
                raise Stopped
            before = progress()
            try:
                return action()
            except _Again as again:
                failures = 1 if progress() - before >= _PROGRESS else failures + 1
                self._wait(url, again, failures)

    def _wait(self, url: str, again: _Again, failures: int) -> None:
        longest = self._patience.longest
        asked = again.after or 0.0
        if failures >= self._patience.attempts or asked > longest:
            more = f", asks to wait {asked:.0f} s" if asked > longest else ""
            raise UnreachableError(
                f"{url}: {again}{more}; given up after {failures} attempts",
                "check the network and run the same command again later: it continues where it "
                "stopped",
            )
        delay = max(asked, min(self._patience.first * 2 ** (failures - 1), longest))
        _LOG.info("%s: %s; next attempt in %.0f s", url, again, delay)
        self.stop.wait(delay)


def _verified(remote: Remote, part: Path, meter: Meter) -> str:
    """Checksum of a whole file; another one than expected is removed."""
    try:
        seen = verify(part, remote.url, remote.size, remote.checksum)
    except IntegrityError:
        meter.add(-_size(part))
        discard(part)
        raise
    _beside(part).unlink(missing_ok=True)
    return seen


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _usable(note: _Note | None, remote: Remote, joining: bool) -> bool:
    """Whether a beginning may be continued: of the same address, and somebody can tell."""
    if note is None or note.url != remote.url or not joining:
        return False
    return bool(note.validator or remote.checksum)


def _start(
    response: requests.Response, have: int, note: _Note | None, part: Path, meter: Meter
) -> int:
    """First byte that the answer holds, 0 or ``have``."""
    if response.status_code == _OK:
        # The server ignores ranges, or the file has changed: the whole of it follows.
        meter.add(-have)
        return 0
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    found = _validator(response)
    changed = note is not None and (
        found not in ("", note.validator) or note.total != _total(response, have)
    )
    if first != str(have) or changed:
        discard(part)
        meter.add(-have)
        raise _Again("the file has changed since its first part arrived")
    return have


def _total(response: requests.Response, start: int) -> int | None:
    """Bytes of the whole file, None where the server does not say."""
    if response.status_code == _PARTIAL:
        stated = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(stated) if stated.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified", "")


def _check_offer(remote: Remote, total: int | None) -> None:
    if remote.size is not None and total is not None and total != remote.size:
        raise IntegrityError(
            f"{remote.url}: the server offers {total} bytes, expected {remote.size}",
            "try again later; when it stays so, its publisher has replaced the file",
        )


def _retry_after(response: requests.Response) -> float | None:
    stated = response.headers.get("Retry-After")
    try:
        return urllib3.Retry().parse_retry_after(stated) if stated else None
    except urllib3.exceptions.InvalidHeader:
        return None
