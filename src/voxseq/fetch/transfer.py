"""One file over HTTP that survives interruptions.

pooch, fsspec's ``get`` and plain ``requests`` start from the first byte when a transfer breaks off;
an archive here has up to 37 GB. So this asks for the missing range, and only of the same file
(``If-Range``, RFC 9110, section 13.1.5).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from requests import Response

from voxseq.base.errors import DataError, IntegrityError, ResourceError, VoxseqError
from voxseq.base.failures import write_named
from voxseq.base.files import write_json
from voxseq.fetch.content import REPLACED, Remote
from voxseq.fetch.http import (
    OK,
    PARTIAL,
    UNSATISFIABLE,
    Client,
    chunks,
    content_length,
    content_range,
    is_validator,
    validator,
)
from voxseq.fetch.meter import Meter, free_bytes, in_words, require_space
from voxseq.fetch.record import read_note
from voxseq.fetch.stream import TransientError

_LOG = logging.getLogger("voxseq.fetch")
#: Smallest file that is resumed; fetching a smaller one costs less than remembering it.
_WORTH_RESUMING = 1 << 20
#: Share of the free space that a file may take of which nobody states a length.
_OF_FREE = 0.9


@dataclass(frozen=True)
class _Note:
    """The file of which a ``.part`` holds the beginning: its address, validator and bytes."""

    url: str
    validator: str
    total: int | None

    def write(self, part: Path) -> None:
        write_json(_beside(part), asdict(self))


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def length(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def download(client: Client, remote: Remote, part: Path, meter: Meter) -> str:
    """Fetch a file into ``part``, continuing a beginning that is there; returns its checksum.

    Raises:
        DataError: the server refuses, sends a page, or cannot be reached
            (:class:`~voxseq.fetch.http.UnreachableError`).
        ResourceError: the disk is full. In both cases ``part`` keeps what has arrived, unless it is
            no beginning of the file.
        IntegrityError: the file is not the expected one; ``part`` is removed.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    work = _Download(client, remote, part, meter)
    try:
        return work.run()
    except IntegrityError as error:
        if not work.is_joined:
            raise
        _LOG.warning("%s; it came in pieces, so it is fetched once more", error.what)
    return _Download(client, remote, part, meter, may_resume=False).run()


class _Download:
    """Receives one file.

    Attributes:
        is_joined: whether it was joined from pieces of several answers.
    """

    def __init__(
        self, client: Client, remote: Remote, part: Path, meter: Meter, *, may_resume: bool = True
    ) -> None:
        self._client = client
        self._remote = remote
        self._part = part
        self._meter = meter
        self._may_resume = may_resume
        self.is_joined = False

    def run(self) -> str:
        """Receive until the file is whole, and check it."""
        self._client.retrying(self._remote.url, self._receive, lambda: length(self._part))
        try:
            seen = self._remote.verify(self._part, self._client.check)
        except (IntegrityError, DataError):
            self._discard()
            raise
        _beside(self._part).unlink(missing_ok=True)
        return seen

    def _discard(self) -> None:
        """Remove the beginning of the file."""
        self._meter.add(-length(self._part))
        self._part.unlink(missing_ok=True)
        _beside(self._part).unlink(missing_ok=True)

    def _beginning(self) -> _Note | None:
        """The note of a beginning that may be resumed: the same address, and somebody can tell."""
        note = read_note(_beside(self._part), _Note)
        if note is None or note.url != self._remote.url or not self._may_resume:
            return None
        if note.validator:
            return note if is_validator(note.validator) else None
        return note if self._remote.checksum else None

    def _receive(self) -> None:
        note = self._beginning()
        if note is None:
            self._discard()
        have = length(self._part)
        if note and have and note.total == have:
            self.is_joined = True
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        if note and have and note.validator:
            headers["If-Range"] = note.validator
        url = self._remote.url
        with self._client.get(url, headers, has_checksum=bool(self._remote.checksum)) as answer:
            start = self._start(answer, have, note)
            total = _total(answer, start, url)
            self._check_offer(answer, total)
            if total is not None:
                require_space(self._part.parent, total - start, url)
            if start == 0:
                # Else a kill at this point would leave the note of one file beside another's part.
                self._discard()
            if total is None or total >= _WORTH_RESUMING:
                _Note(url, validator(answer.headers), total).write(self._part)
            self._append(answer, start, total)
        if total is not None and length(self._part) != total:
            raise TransientError(
                f"the connection ended after {length(self._part)} of {total} bytes"
            )
        self.is_joined |= start > 0

    def _start(self, answer: Response, have: int, note: _Note | None) -> int:
        """First byte that the answer holds, 0 or ``have``."""
        if answer.status_code == OK:
            # The server ignores ranges, or the file has changed: the whole of it follows.
            return 0
        if answer.status_code == UNSATISFIABLE:
            self._discard()
            raise TransientError(f"has no byte {have} any more")
        said, found = content_range(answer.headers), validator(answer.headers)
        fits = note is not None and said == (have, note.total)
        if note is None or not fits or found not in ("", note.validator):
            self._discard()
            raise TransientError("the file has changed since its first part arrived")
        return have

    def _check_offer(self, answer: Response, total: int | None) -> None:
        """Compare the announced file with the expected one before the transfer.

        Raises:
            DataError: it is a page, packed, or larger than the catalogue allows.
            IntegrityError: it has another size.
        """
        remote = self._remote
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity") and not remote.checksum:
            raise DataError(
                f"{remote.url}: the server compresses the file for the way, although asked not to",
                "obtain the file by hand (`voxseq data show` names the publisher's page)",
            )
        if total is None:
            return
        if remote.size is not None and total != remote.size:
            remote.require_no_page(next(chunks(answer), b""))
            raise IntegrityError(
                f"{remote.url}: the server offers {total} bytes, expected {remote.size}",
                REPLACED,
            )
        if remote.size is None and remote.most is not None and total > remote.most:
            raise _too_much(remote, f"offers {in_words(total)}, more than the")

    def _append(self, answer: Response, start: int, total: int | None) -> None:
        """Write the body behind the first ``start`` bytes, up to a limit."""
        known = self._remote.size if self._remote.size is not None else total
        most, error = self._limit(known, start)
        position = start
        try:
            with write_named(self._part), self._part.open("r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for chunk in chunks(answer):
                    position += len(chunk)
                    if position > most:
                        break
                    file.write(chunk)
                    self._meter.add(len(chunk))
        except TransientError:
            # Some servers do not close after the last byte of a file of unstated length.
            if known is None or position != known:
                raise
        if position > most:
            self._discard()
            raise error

    def _limit(self, known: int | None, start: int) -> tuple[int, VoxseqError]:
        """Most bytes that the file may have, and the error for one with more."""
        remote, stop = self._remote, "stopped there, nothing of it is kept"
        said = f"{remote.url}: the server sends more than the"
        if known is not None:
            return known, IntegrityError(
                f"{said} {known} bytes that the file has; {stop}",
                REPLACED,
            )
        folder = self._part.parent
        free = int(_OF_FREE * free_bytes(folder))
        if remote.most is not None and remote.most - start <= free:
            return remote.most, _too_much(remote, "sends more than the")
        return start + free, ResourceError(
            f"{said} {in_words(free)} that are {_OF_FREE:.0%} of the space on {folder}, and states "
            f"no length; {stop}",
            "look at the publisher's page how large the file is; free some space, or choose "
            "another disk with --root or VOXSEQ_DATA",
        )


def _too_much(remote: Remote, said: str) -> DataError:
    return DataError(
        f"{remote.url}: the server {said} {in_words(remote.most)} that the catalogue allows for "
        "it; nothing of it is kept",
        "compare the address with its publisher's page (`voxseq data show` names it): the "
        "catalogue's entry is wrong, or the file is another one",
    )


def _total(answer: Response, start: int, url: str) -> int | None:
    """Bytes of the whole file, None where the server does not say."""
    if answer.status_code == PARTIAL:
        said = content_range(answer.headers)
        return said[1] if said else None
    stated = content_length(answer.headers, url)
    return None if stated is None else start + stated
