"""Texts from outside (titles, labels, names of cases) inside the formats of the report.

Each format has one function, which its writers apply to every text that is not their own: a title
is shown as it was written, and is never read as a formula, a command, a link or a tag.
"""

from __future__ import annotations

import re
import unicodedata

#: What is said first of generated data, as a field of CSV and JSON files.
DATA_FIELD, PHANTOM_DATA = "data", "phantoms"
#: Control characters, line and paragraph separators, lone surrogates.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})
#: With these a spreadsheet begins a formula; the wide ones are read alike in some locales.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_MARKDOWN = str.maketrans(
    {
        **{character: f"\\{character}" for character in "\\`*_~|$#"},
        **{"<": "&lt;", ">": "&gt;", "&": "&amp;"},
    }
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Braced: at the start of a row they would belong to the line break before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "±": r"$\pm$",
    "†": r"$^{\dagger}$",
    "▲": r"$^{\blacktriangle}$",
    "▼": r"$^{\blacktriangledown}$",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "×": r"$\times$",
    "²": r"$^2$",
    "³": r"$^3$",
}


def one_line(text: str) -> str:
    """The text with a space for each control character, line break and lone surrogate."""
    return "".join(" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def csv_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula; numbers stay numbers."""
    shown = one_line(text)
    if shown.lstrip().startswith(_FORMULA) and not _is_number(shown):
        return f"'{shown}"
    return shown


def markdown_text(text: str) -> str:
    """Plain text for GitHub Markdown, one line."""
    shown = one_line(text).translate(_MARKDOWN)
    shown = re.sub(r"\](?=[(\[])", r"\\]", shown)
    # Addresses become links without any brackets.
    return re.sub(r"(?i)(:)(?=//)|(?<=\bwww)(\.)", r"\\\g<0>", shown)


def latex_text(text: str) -> str:
    """Plain text with every character that LaTeX reads as a command escaped."""
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
