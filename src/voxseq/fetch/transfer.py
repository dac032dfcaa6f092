"""Files over HTTP that survive interruptions.

pooch, the usual choice for checked downloads, starts from the first byte when a transfer breaks
off, as do fsspec's ``get`` and the plain use of ``requests``; an archive here has up to 37 GB. So
this is a thin layer over ``requests``: it asks for the missing range, and only of the same file
(``If-Range``, RFC 9110, section 13.1.5). An address is tried again after time-outs, broken
connections and the answers 408, 429 and 5xx, ever more slowly, and as late as ``Retry-After`` asks;
any other answer is final.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from voxseq.base.errors import DataError, IntegrityError
from voxseq.base.files import write_json
from voxseq.fetch.ask import OK, PARTIAL, UNSATISFIABLE, Again, Answer, Asker, Patience, Stopped
from voxseq.fetch.checksum import verify
from voxseq.fetch.content import START, require_content, require_no_page
from voxseq.fetch.disk import disk_error, reading, require_space
from voxseq.fetch.headers import content_length, content_range, is_validator, validator
from voxseq.fetch.meter import Meter, in_words
from voxseq.fetch.notes import read_note
from voxseq.fetch.remote import Bound, Remote, bound_of, check_offer

__all__ = ["Client", "Patience", "Remote", "Stopped", "UnreachableError"]

T = TypeVar("T")
_LOG = logging.getLogger("voxseq.fetch")
#: Bytes between two failures after which a server counts as working and attempts as unused.
_PROGRESS = 1 << 20
#: Smallest file that is continued; of a smaller one, fetching costs less than remembering.
_WORTH_CONTINUING = 1 << 20
#: Longest answer that is read into memory.
_LONGEST_TEXT = 1 << 26


class UnreachableError(DataError):
    """A server that did not answer, or not usefully, however often it was asked."""


@dataclass(frozen=True)
class _Note:
    """What is known about the file of which a ``.part`` holds the beginning."""

    url: str
    validator: str
    total: int | None

    @classmethod
    def read(cls, part: Path) -> _Note | None:
        note = read_note(_beside(part), cls)
        return note if note and (not note.validator or is_validator(note.validator)) else None

    def write(self, part: Path) -> None:
        write_json(_beside(part), asdict(self))


def discard(part: Path) -> None:
    """Remove the beginning of a file."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


class Client:
    """Reads addresses without credentials, from several threads at once.

    Args:
        parallel: connections a host.
        patience: how often an address is tried again, and how slow it may be.
    """

    def __init__(self, parallel: int = 2, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._asker = Asker(parallel, self._patience)
        self.stop = self._asker.stop

    def end(self) -> None:
        """Stop all threads, also those that wait for a server."""
        self._asker.end()

    def going(self) -> None:
        """Raise :class:`Stopped` when the work is to end."""
        if self.stop.is_set():
            raise Stopped

    def text(self, url: str) -> bytes:
        """The whole answer of an address.

        Raises:
            DataError: the answer is an error, or none comes (:class:`UnreachableError`).
        """

        def read() -> bytes:
            content = bytearray()
            with self._get(url) as answer:
                for chunk in answer.chunks():
                    content += chunk
                    if len(content) > _LONGEST_TEXT:
                        raise DataError(
                            f"{url}: the answer is longer than {in_words(_LONGEST_TEXT)}",
                            "compare the address with its publisher's page",
                        )
            return bytes(content)

        return self._patiently(url, read, lambda: 0)

    def size(self, remote: Remote) -> int | None:
        """Bytes that the server states for a file, without fetching it; None where it does not.

        Raises:
            DataError: as :meth:`text`.
        """

        def ask() -> int | None:
            # A GET that is closed at once: some servers answer HEAD with nothing or an error.
            with self._get(remote.url, {}, bool(remote.checksum)) as answer:
                return content_length(answer.headers, remote.url)

        return self._patiently(remote.url, ask, lambda: 0)

    def download(self, remote: Remote, part: Path, meter: Meter) -> str:
        """Fetch a file into ``part``, continuing what is there; returns its checksum.

        Raises:
            DataError: the server refuses or sends a page, or no answer comes
                (:class:`UnreachableError`).
            ResourceError: the disk is full. In both cases what has arrived stays in ``part``,
                unless it is no beginning of the file.
            IntegrityError: the file is not the expected one; ``part`` is removed.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        joined = self._complete(remote, part, meter, joining=True)
        try:
            return self._verified(remote, part, meter)
        except IntegrityError as error:
            if not joined:
                raise
            _LOG.warning("%s; it came in pieces, so it is fetched once more", error.what)
        self._complete(remote, part, meter, joining=False)
        return self._verified(remote, part, meter)

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
        with self._get(remote.url, headers, bool(remote.checksum)) as answer:
            if answer.status == UNSATISFIABLE:
                discard(part)
                meter.add(-have)
                raise Again(f"has no byte {have} any more")
            start = _start(answer, have, note, part, meter)
            total = _total(answer, start, remote.url)
            check_offer(remote, answer, total)
            if total is not None:
                require_space(part.parent, total - start, remote.url)
            if start == 0:
                # Else a kill at this point would leave the note of one file beside another's part.
                discard(part)
            if total is None or total >= _WORTH_CONTINUING:
                _Note(remote.url, validator(answer.headers), total).write(part)
            self._append(answer, part, start, bound_of(remote, total, start, part), meter)
        if total is not None and _size(part) != total:
            raise Again(f"the connection ended after {_size(part)} of {total} bytes")
        return start > 0

    def _append(self, answer: Answer, part: Path, start: int, bound: Bound, meter: Meter) -> None:
        position = start
        try:
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for chunk in answer.chunks():
                    position += len(chunk)
                    if position > bound.bytes:
                        break
                    file.write(chunk)
                    meter.add(len(chunk))
        except OSError as error:
            raise disk_error(part, error) from None
        except Again:
            # Some servers do not close after the last byte of a file of unstated length.
            if not (bound.exact and position == bound.bytes):
                raise
        if position > bound.bytes:
            meter.add(-_size(part))
            discard(part)
            raise bound.error

    def _get(
        self, url: str, headers: dict[str, str] | None = None, vouched: bool = False
    ) -> AbstractContextManager[Answer]:
        return self._asker.get(url, headers or {}, vouched)

    def _verified(self, remote: Remote, part: Path, meter: Meter) -> str:
        """Checksum of a whole file; another one than expected is removed."""
        try:
            seen = self._seen(remote, part)
        except (IntegrityError, DataError):
            meter.add(-_size(part))
            discard(part)
            raise
        _beside(part).unlink(missing_ok=True)
        return seen

    def _seen(self, remote: Remote, part: Path) -> str:
        with reading(part), part.open("rb") as file:
            start = file.read(START)
        try:
            seen = verify(part, remote.url, remote.size, remote.checksum, self.going)
        except IntegrityError:
            require_no_page(start, remote.file_name, remote.url)
            raise
        if not remote.checksum:
            require_no_page(start, remote.file_name, remote.url)
            require_content(start, remote.size, remote.url)
        return seen

    def _patiently(self, url: str, action: Callable[[], T], progress: Callable[[], int]) -> T:
        """Repeat ``action`` after failures that may pass."""
        failures = 0
        while True:
            self.going()
            before = progress()
            try:
                return action()
            except Again as again:
                failures = 1 if progress() - before >= _PROGRESS else failures + 1
                self._wait(url, again, failures)

    def _wait(self, url: str, again: Again, failures: int) -> None:
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


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _usable(note: _Note | None, remote: Remote, joining: bool) -> bool:
    """Whether a beginning may be continued: of the same address, and somebody can tell."""
    if note is None or note.url != remote.url or not joining:
        return False
    return bool(note.validator or remote.checksum)


def _start(answer: Answer, have: int, note: _Note | None, part: Path, meter: Meter) -> int:
    """First byte that the answer holds, 0 or ``have``."""
    if answer.status == OK:
        # The server ignores ranges, or the file has changed: the whole of it follows.
        meter.add(-have)
        return 0
    said, found = content_range(answer.headers), validator(answer.headers)
    fits = said is not None and note is not None and said == (have, note.total)
    if not fits or (note is not None and found not in ("", note.validator)):
        discard(part)
        meter.add(-have)
        raise Again("the file has changed since its first part arrived")
    return have


def _total(answer: Answer, start: int, url: str) -> int | None:
    """Bytes of the whole file, None where the server does not say."""
    if answer.status == PARTIAL:
        said = content_range(answer.headers)
        return said[1] if said else None
    length = content_length(answer.headers, url)
    return None if length is None else start + length
