"""Pieces of HTML: every text is escaped, pictures are embedded, nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template

from voxseq.report.escape import PHANTOMS, html_text


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


def page(
    title: str, lead: str, links: Iterable[tuple[str, str]], body: str, *, phantoms: bool
) -> str:
    """A whole page.

    Args:
        title: of the page, plain text.
        lead: HTML below the title.
        links: address and text of each link.
        body: HTML.
        phantoms: whether the data of the study are generated, which the page says first.
    """
    template = Template(
        resources.files("voxseq.report.pages").joinpath("page.html").read_text(encoding="utf-8")
    )
    shown = [f'<a href="{html_text(to)}">{html_text(text)}</a>' for to, text in links]
    said = PHANTOMS if phantoms else ""
    return template.substitute(
        name=html_text(f"{title}. {said}" if said else title),
        data=f'<p class="bad"><b>{html_text(said)}</b></p>\n' if said else "",
        title=html_text(title),
        lead=lead,
        links=" ".join(shown),
        body=body,
    )


def links(sections: Sequence[Section]) -> list[tuple[str, str]]:
    """Address and text of the link to each section."""
    return [(f"#{section.key}", section.link) for section in sections]


def section(part: Section) -> str:
    """A section with its title."""
    return f'<section id="{part.key}"><h2>{html_text(part.title)}</h2>\n{part.body}</section>'


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain texts; the first column holds names."""
    head = "".join(f"<th>{html_text(text)}</th>" for text in header)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{html_text(text)}</td>" for text in row[1:])
        lines.append(f"<tr><th>{html_text(row[0])}</th>{cells}</tr>")
    body = "\n".join(lines)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def notes(texts: Iterable[str]) -> str:
    """Footnotes as a list."""
    items = "".join(f"<li>{html_text(text)}</li>" for text in texts)
    return f'<ul class="notes">{items}</ul>'


def folded(summary: str, body: str) -> str:
    """HTML that a reader opens with a click."""
    return f"<details><summary>{html_text(summary)}</summary>\n{body}</details>"


def picture(item: Picture) -> str:
    """An embedded picture and its caption."""
    data = base64.b64encode(item.png).decode("ascii")
    return (
        f'<img alt="{html_text(item.title)}" src="data:image/png;base64,{data}">'
        f"<p>{html_text(item.caption)}</p>"
    )
