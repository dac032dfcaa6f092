"""Paths by pattern: ``*``, ``**`` and ``?`` as in a shell, ``{case}`` for the name of a case."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from voxseq.base.lists import CHANNEL
from voxseq.base.paths import IMAGES, NIFTI, ending_of, files, without_ending

_CASE = "(?P<case>[^/]+?)"
_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\{case\}")
_WORDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Glob:
    """A pattern of paths relative to a folder.

    Without ``{case}`` the case is what the only ``*`` before an ending stands for; else it is the
    whole name without ending and ``_0000``. Endings of NIfTI may be packed or not.
    """

    text: str

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        text = self.text.removeprefix("./")
        place, slash, name = text.rpartition("/")
        if "{case}" not in text and name.count("*") == 1 and ending_of(name, IMAGES):
            text = f"{place}{slash}{name.replace('*', '{case}')}"
        ending = ending_of(text, IMAGES)
        body = text.removesuffix(ending) if ending else text
        parts, position, seen = [], 0, False
        for match in _TOKENS.finditer(body):
            parts.append(re.escape(body[position : match.start()]))
            word, position = match[0], match.end()
            if word == "{case}":
                parts.append("(?P=case)" if seen else _CASE)
                seen = True
            else:
                parts.append(_WORDS[word])
        parts.append(re.escape(body[position:]))
        ends = NIFTI if ending.lower() in NIFTI else (ending,)
        if ending:
            parts.append(f"(?i:{'|'.join(map(re.escape, ends))})")
        return re.compile("".join(parts))

    @property
    def top(self) -> str:
        """The folder below which all that fits lies; "" for the data set's own."""
        fixed = []
        for part in PurePosixPath(self.text).parts[:-1]:
            if re.search(r"[*?{]", part):
                break
            fixed.append(part)
        return "/".join(fixed)

    def case(self, path: str) -> str | None:
        """The case of a path that fits; None where it does not fit."""
        match = self._expression.fullmatch(path)
        if match is None:
            return None
        return match.groupdict().get("case") or case_of(path)

    def below(self, folder: Path) -> Iterator[tuple[str, str]]:
        """Yield case and path of every file that fits, sorted by path."""
        top = self.top
        found = files(folder / top) if top else files(folder)
        for path in sorted(f"{top}/{name}" if top else name for name in found):
            case = self.case(path)
            if case is not None:
                yield case, path


def case_of(path: str) -> str:
    """The name of a file without ending and ``_0000``."""
    return without_ending(PurePosixPath(path).name).removesuffix(CHANNEL)
