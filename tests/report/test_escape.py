"""Hostile titles, labels and names of cases in every file of the report, and in its figures."""

from __future__ import annotations

import csv
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import fake_study, odd_texts
from voxseq.report.escape import csv_text, latex_text, markdown_text, one_line
from voxseq.report.figures.style import new_figure, styled
from voxseq.report.sheet import Sheet, text_block
from voxseq.report.writers import to_markdown

FORMULA = ("=", "+", "-", "@", "＝")
#: Elements that the pages consist of.
OWN = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "b", "nav", "a"),
    *("section", "div", "table", "thead", "tbody", "tr", "th", "td", "br", "small", "ul", "li"),
    *("img", "details", "summary", "figure", "figcaption", "span", "input", "script"),
}


#: Elements that the Markdown files consist of.
MARKDOWN = {
    *("h2", "h3", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "p", "strong"),
}
#: Commands of the LaTeX files, with those that stand for characters.
LATEX = {
    *("usepackage", "begin", "end", "centering", "caption", "label", "par", "medskip", "textbf"),
    *("smallskip", "resizebox", "linewidth", "toprule", "midrule", "bottomrule"),
    *("footnotesize", "raggedright", "textbackslash", "textasciitilde"),
    *("textasciicircum", "textasciigrave", "textless", "textgreater", "textbar", "pm", "dagger"),
    *("blacktriangle", "blacktriangledown", "dots", "times"),
}
#: Texts that are the titles of tasks, variants and rows; those between are labels.
TITLES = (0, 3, 6, *range(9, 21))


@pytest.fixture
def out(of_phantoms: Path) -> Path:
    """Files of a study whose titles, labels and cases are odd_texts."""
    return of_phantoms


def titles() -> list[str]:
    return [one_line(f"{text} {i}") for i, text in enumerate(odd_texts.TEXTS)]


@pytest.mark.slow
def test_no_cell_of_a_csv_file_is_a_formula_or_has_two_lines(out: Path) -> None:
    paths = sorted(out.rglob("*.csv"))
    assert len(paths) > 10
    words = set()
    for path in paths:
        text = path.read_text(encoding="utf-8")
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))
        assert len({len(row) for row in rows}) == 1
        assert len(text.splitlines()) == len(rows)
        for word in {word for row in rows for word in row}:
            words.add(word.removeprefix("'"))
            if word.lstrip().startswith(FORMULA):
                float(word)
    assert set(titles()[:2]) <= words


def rendered(text: str) -> str:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark")
    return str(markdown.enable(["table", "strikethrough"]).render(text))


@pytest.mark.slow
def test_markdown_shows_every_title_as_it_is(out: Path) -> None:
    paths = sorted(out.rglob("*.md"))
    assert {p.name for p in paths} >= {"table1.md", "table5.md", "differences.md", "cost.md"}
    shown = ""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        page = rendered(text.replace("<br>", " "))
        assert set(re.findall(r"<(\w+)", page)) <= MARKDOWN, path.name
        # Every line of a grid is a row of a table, with as many cells as its header.
        assert page.count("<tr>") == len(re.findall(r"^\|(?! ---)", text, re.MULTILINE))
        for grid in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", row)) for row in grid.splitlines()}) == 1
        shown += plain(page)
        assert not re.search(r"(?i)(?<!\\)\$|https?://|\bwww\.", text)
    for number in TITLES:
        assert words(titles()[number]) in words(shown), titles()[number]


def test_a_markdown_grid_shows_every_text_as_it_is() -> None:
    sheet = Sheet("a", "b", (text_block("", odd_texts.TEXTS, [odd_texts.TEXTS]),))
    page = rendered(to_markdown(sheet))
    cells = [words(plain(cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", page, re.DOTALL)]
    assert cells == [words(text) for text in (*odd_texts.TEXTS, *odd_texts.TEXTS)]
    assert set(re.findall(r"<(\w+)", page)) == {"h2", "table", "thead", "tbody", "tr", "th", "td"}


def plain(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def words(text: str) -> str:
    """The text with single blanks: Markdown and its grids keep no others."""
    return " ".join(one_line(text).split())


@pytest.mark.slow
def test_latex_reads_no_title_as_a_command(out: Path) -> None:
    for path in sorted(out.rglob("*.tex")):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\\([A-Za-z]+)", text)) <= LATEX, path.name
        body = re.sub(r"\\[A-Za-z]+|\\\\|\\.", "", text)
        assert body.count("{") == body.count("}")
        assert body.count("%") == 1 + body.count("{%") + text.startswith("% Data")
        assert not re.search(r"[#_~^]", re.sub(r"\$\^\{?[^$]*\$", "", body))
        # Nothing that a line break or a rule would take as its argument.
        assert not re.search(r"(\\\\|rule)\s*(\[|\*)", text)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.scripts = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


@pytest.mark.slow
def test_pages_show_every_title_and_case_as_it_is(out: Path) -> None:
    seen = ""
    for name in ("index.html", "cases.html"):
        page = _Tags()
        page.feed((out / "report" / name).read_text(encoding="utf-8"))
        assert page.tags <= OWN
        assert page.names <= {
            *("lang", "charset", "name", "content", "href", "id", "class", "colspan", "alt", "src"),
            *("style", "tabindex", "type", "min", "max", "value", "aria-label", "open"),
        }
        # The slider's own on the page of cases.
        assert page.scripts == (name == "cases.html")
        seen += page.text
    for i, title in enumerate(titles()):
        assert title in seen, title
        if i < fake_study.CASES:
            assert f"{title} case_{i:02d}" in seen or title.endswith("/"), title


@pytest.mark.slow
def test_figures_are_drawn_whatever_titles_say(out: Path) -> None:
    names = {p.stem for p in (out / "figures").glob("*.png")}
    assert {"figure2", "heatmap", "label_ratio", "reliability", "curves_ablation"} <= names


@pytest.mark.parametrize("text", odd_texts.TEXTS)
def test_a_figure_shows_a_text_as_it_is(text: str) -> None:
    with styled():
        figure = new_figure(9, 4)
        axes = figure.subplots()
        axes.plot([0, 1], label=text)
        drawn = [axes.set_title(text), axes.set_xlabel(text), axes.text(0, 0, text)]
        drawn += figure.legend(handles=axes.lines).get_texts()
        figure.canvas.draw()
    assert not any(item.get_parse_math() for item in drawn)
    assert {item.get_text() for item in drawn} == {text}


@given(st.text())
def test_any_text_is_one_line_in_every_format(text: str) -> None:
    for shown in (csv_text(text), markdown_text(text), latex_text(text)):
        assert len(shown.splitlines()) <= 1
        shown.encode("utf-8")
    assert csv_text(csv_text(text)) == csv_text(text)


@given(st.floats(allow_nan=True))
def test_numbers_stay_numbers_in_a_csv_file(value: float) -> None:
    assert csv_text(f"{value:.9g}") == f"{value:.9g}"
    assert csv_text(f"{value:+.3f}") == f"{value:+.3f}"
