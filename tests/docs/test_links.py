"""Links between pages, on GitHub and on the site, lead to files and headings that are there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers import ROOT
from tests.helpers.pages import PAGES

READ = [
    *PAGES,
    *(ROOT / name for name in ("CHANGELOG.md", "results/README.md", "benchmarks/results.md")),
]
SITE = ROOT / "mkdocs.yml"
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<file>[^)\s#]*)(?:#(?P<anchor>[^)\s]*))?\)")
#: Programs that pages name by their paths, and words that stand for a name of the reader's.
_PROGRAM = re.compile(r"`([a-z_]+/[A-Za-z0-9_/]+\.(?:py|sh|c))`")
_IMAGINED = re.compile(r"NAME|denoising")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+?)\s*#*$", re.MULTILINE)


def links(text: str) -> Iterator[tuple[str, str | None]]:
    """Files and anchors that a page links to; nothing inside blocks of code."""
    plain = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    for found in _LINK.finditer(plain):
        yield found["file"], found["anchor"]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    made = set()
    for match in _HEADING.finditer(_FENCE.sub("", text)):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match["title"])
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        made.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return made


def broken(page: Path, text: str) -> list[str]:
    """Links of a page that lead nowhere."""
    wrong = []
    for name, anchor in links(text):
        target = page.parent / name if name else page
        if name and not target.exists():
            wrong.append(name)
        elif anchor and target.suffix == ".md":
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                wrong.append(f"{name}#{anchor}")
    return wrong


@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_programs_that_pages_name_are_there() -> None:
    named = [(page, name) for page in READ for name in _PROGRAM.findall(page.read_text())]
    assert named
    places = (ROOT, ROOT / "src/voxseq", ROOT / "docs")
    gone = [
        (str(page.relative_to(ROOT)), name)
        for page, name in named
        if not _IMAGINED.search(name) and not any((place / name).exists() for place in places)
    ]
    assert gone == []


@pytest.mark.parametrize(
    ("link", "is_broken"),
    [
        *(("quickstart.md", False), ("quickstart.md#install", False), ("#place", False)),
        *(("missing.md", True), ("quickstart.md#instal", True), ("#places", True)),
        *(("https://example.org/missing.md", False), ("../README.md", False)),
    ],
)
def test_a_broken_link_is_noticed(link: str, is_broken: bool) -> None:
    page = ROOT / "docs/imagined.md"
    assert bool(broken(page, f"# Imagined\n\n## Place\n\nSee [there]({link}).\n")) == is_broken


@pytest.mark.parametrize(
    ("searched", "page"),
    [
        ("add data set", "adding-a-dataset.md"),
        ("own data", "own-data.md"),
        ("predict", "predicting.md"),
        ("export model", "exporting.md"),
        *(("delete study", "while-it-runs.md"), ("change steps rerun", "while-it-runs.md")),
        ("statistics", "statistics.md"),
    ],
)
def test_a_heading_has_the_words_that_are_searched(searched: str, page: str) -> None:
    """The site's search finds words by their beginnings, and those of headings first."""
    titles = [found["title"].lower() for found in _HEADING.finditer((DOCS / page).read_text())]
    starts = [re.compile(rf"\b{word}") for word in searched.split()]
    assert any(all(start.search(title) for start in starts) for title in titles)


def pages_of(entries: Any) -> Iterator[str]:
    """Pages that the navigation names, in order."""
    if isinstance(entries, str):
        yield entries
    for entry in entries if isinstance(entries, list) else ():
        yield from pages_of([*entry.values()] if isinstance(entry, dict) else entry)


def test_every_page_is_in_the_navigation_once() -> None:
    named = Counter(pages_of(yaml.safe_load(SITE.read_text(encoding="utf-8"))["nav"]))
    assert set(named.values()) == {1}
    pages = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")}
    assert pages <= set(named)
    for name in set(named) - pages:
        source = ROOT / name
        assert source.is_file() or source.with_suffix(".ipynb").is_file(), name
