"""What a remote file is said to be, and how much of an answer is taken for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from voxseq.base.errors import DataError, IntegrityError, ResourceError
from voxseq.fetch.ask import Answer
from voxseq.fetch.content import START, require_no_page
from voxseq.fetch.disk import free_bytes
from voxseq.fetch.headers import is_packed
from voxseq.fetch.meter import in_words

#: Share of the free space that a file may take of which nobody states a length.
_OF_FREE = 0.9


@dataclass(frozen=True)
class Remote:
    """An address with what its content must be; see :class:`RemoteFile`.

    Attributes:
        url: the address.
        size: bytes; None where unknown.
        checksum: its checksum; "" where unknown.
        name: name of the file, which tells its type; "": as in the address.
        most: bytes that it cannot exceed where ``size`` is unknown; None where nobody says.
    """

    url: str
    size: int | None = None
    checksum: str = ""
    name: str = ""
    most: int | None = None

    @property
    def file_name(self) -> str:
        """A name with the ending of its type."""
        return self.name or PurePosixPath(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Bound:
    """Most bytes that a file may have, and the error for one with more.

    Attributes:
        bytes: most bytes.
        error: what is raised beyond.
        exact: whether the file has exactly so many.
    """

    bytes: int
    error: DataError | IntegrityError | ResourceError
    exact: bool = False


def bound_of(remote: Remote, total: int | None, start: int, part: Path) -> Bound:
    """How much is taken.

    Args:
        remote: the file.
        total: bytes of the whole file by the server; None where it does not say.
        start: first byte of the answer.
        part: where it goes.
    """
    stop = f"{remote.url}: the server sends more than the"
    known = remote.size if remote.size is not None else total
    if known is not None:
        return Bound(
            known,
            IntegrityError(
                f"{stop} {known} bytes that the file has; stopped there, nothing of it is kept",
                "try again later; when it stays so, its publisher has replaced the file",
            ),
            exact=True,
        )
    free = int(_OF_FREE * free_bytes(part.parent))
    if remote.most is not None and remote.most - start <= free:
        return Bound(remote.most, _too_much(remote, stop))
    return Bound(
        start + free,
        ResourceError(
            f"{stop} {in_words(free)} that are {_OF_FREE:.0%} of the space on {part.parent}, and "
            "states no length; stopped there, nothing of it is kept",
            "look at the publisher's page how large the file is; free some space, or choose "
            "another disk with --root or VOXSEQ_DATA",
        ),
    )


def _too_much(remote: Remote, said: str) -> DataError:
    return DataError(
        f"{said} {in_words(remote.most)} that the catalogue allows for it; nothing of it is kept",
        "compare the address with its publisher's page (`voxseq data show` names it): the "
        "catalogue's entry is wrong, or the file is another one",
    )


def check_offer(remote: Remote, answer: Answer, total: int | None) -> None:
    """Look at what is announced before the transfer.

    Raises:
        DataError: it is a page, packed, or larger than the catalogue allows.
        IntegrityError: it has another size.
    """
    if is_packed(answer.headers) and not remote.checksum:
        raise DataError(
            f"{remote.url}: the server compresses the file for the way, although asked not to",
            "obtain the file by hand (`voxseq data show` names the publisher's page)",
        )
    if total is None:
        return
    if remote.size is not None and total != remote.size:
        start = next(answer.chunks(), b"")[:START]
        require_no_page(start, remote.file_name, remote.url)
        raise IntegrityError(
            f"{remote.url}: the server offers {total} bytes, expected {remote.size}",
            "try again later; when it stays so, its publisher has replaced the file",
        )
    if remote.size is None and remote.most is not None and total > remote.most:
        said = f"{remote.url}: the server offers {in_words(total)}, more than the"
        raise _too_much(remote, said)
