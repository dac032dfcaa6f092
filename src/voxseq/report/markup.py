"""Pieces of HTML: every text is escaped, pictures are embedded, nothing is fetched."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template


@dataclass(frozen=True)
class Picture:
    """One figure as PNG bytes."""

    title: str
    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of a page: ``link`` is its short name in the list of links, ``body`` is HTML."""

    key: str
    link: str
    title: str
    body: str


def page(title: str, lead: str, links: Iterable[tuple[str, str]], body: str) -> str:
    """A whole page.

    Args:
        title: of the page, plain text.
        lead: HTML below the title.
        links: address and text of each link.
        body: HTML.
    """
    template = Template(
        resources.files("voxseq.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    shown = [f'<a href="{html.escape(to)}">{html.escape(text)}</a>' for to, text in links]
    return template.substitute(
        title=html.escape(title), lead=lead, links=" ".join(shown), body=body
    )


def links(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Address and text of the link to each section."""
    return [(f"#{section.key}", section.link) for section in sections]


def section(part: Section) -> str:
    """A section with its title."""
    return f'<section id="{part.key}"><h2>{html.escape(part.title)}</h2>\n{part.body}</section>'


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts; the first column holds names."""
    head = "".join(f"<th>{html.escape(text)}</th>" for text in header)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in row[1:])
        lines.append(f"<tr><th>{html.escape(row[0])}</th>{cells}</tr>")
    body = "\n".join(lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def notes(texts: Iterable[str]) -> str:
    """Footnotes as a list."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f'<ul class="notes">{items}</ul>'


def folded(summary: str, body: str) -> str:
    """HTML that a reader opens with a click."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{body}</details>"


def picture(item: Picture) -> str:
    """An embedded picture and its caption."""
    data = base64.b64encode(item.png).decode("ascii")
    return (
        f'<img alt="{html.escape(item.title)}" src="data:image/png;base64,{data}">'
        f"<p>{html.escape(item.caption)}</p>"
    )
