"""Numbers and validators in the headers of an answer, which a server may write as it likes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import urllib3

from voxseq.base.errors import DataError

#: Digits of a number of bytes or seconds; one with more is no such number.
_DIGITS = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
#: A strong ETag and a date, RFC 9110, sections 8.8.3 and 5.6.7. Others could not be sent back.
_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]{0,1000}"')
_DATE = re.compile(r"[A-Za-z0-9 ,:+-]{10,60}")
#: Seconds that stand for a longer wait than anybody can state.
_FOR_EVER = 10**9


def whole_number(text: str) -> int | None:
    """A number of plain digits, None for anything else."""
    stripped = text.strip()
    return int(stripped) if _DIGITS.fullmatch(stripped) else None


def content_length(headers: Mapping[str, str], url: str) -> int | None:
    """Bytes that follow; None where the server does not say.

    Raises:
        DataError: it says what is no number of bytes, so nobody knows where the answer ends.
    """
    stated = headers.get("Content-Length")
    # In pieces, the answer says itself where it ends (RFC 9112, section 6.3).
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
    """First byte of a part, and bytes of the whole where known; None for what is no range."""
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return (int(found[1]), whole_number(found[2])) if found else None


def is_packed(headers: Mapping[str, str]) -> bool:
    """Whether the server has compressed the answer for the way."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def validator(headers: Mapping[str, str]) -> str:
    """What tells whether the file is still the same; "" where nothing does."""
    etag, date = headers.get("ETag", ""), headers.get("Last-Modified", "")
    return etag if _ETAG.fullmatch(etag) else date if is_validator(date) else ""


def is_validator(text: str) -> bool:
    """Whether ``text`` can be sent back as the condition of a request."""
    return bool(_ETAG.fullmatch(text) or _DATE.fullmatch(text))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait; None where it does not, or not legibly."""
    stated = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", stated):
        return min(whole_number(stated) or (0 if not stated.strip("0") else _FOR_EVER), _FOR_EVER)
    try:
        return min(urllib3.Retry().parse_retry_after(stated), _FOR_EVER) if stated else None
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def shortened(text: str, most: int = 40) -> str:
    """A server's words, for a message: without control characters, and never long."""
    return repr(text if len(text) <= most else f"{text[:most]}…")
