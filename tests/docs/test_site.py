"""The hooks with which `make docs` builds the site; the build itself checks links and anchors."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from tests.helpers import ROOT

mkdocs = pytest.importorskip("mkdocs", reason="`make docs` installs it")


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs/site/hooks.py"))


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://unpkg.com/other"></script>',
        '<img alt="" src="https://example.org/badge.svg">',
        '<link rel="stylesheet" href="https://fonts.example.org/css">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_refused(hooks: dict[str, Any], tag: str) -> None:
    from mkdocs.exceptions import PluginError

    with pytest.raises(PluginError, match="elsewhere"):
        hooks["_on_its_own"](f"<head>{tag}</head>", "page.md", "shim.js")


def test_links_to_elsewhere_may_stay(hooks: dict[str, Any]) -> None:
    text = (
        '<a href="https://example.org">there</a><link rel="canonical" href="https://example.org">'
    )
    assert hooks["_on_its_own"](text, "page.md", "shim.js") == text


def test_the_theme_gets_our_copy_of_its_script(hooks: dict[str, Any]) -> None:
    text = '<script src="https://unpkg.com/iframe-worker/shim"></script>'
    assert hooks["_on_its_own"](text, "page.md", "shim.js") == '<script src="shim.js"></script>'


class _Files:
    """Pages of a site by their paths."""

    def __init__(self, *pages: str) -> None:
        self.pages = set(pages)

    def get_file_from_path(self, path: str) -> Any:
        return None if path not in self.pages else _File()


class _File:
    content_string = "# Its heading\n"


@pytest.mark.parametrize(
    ("page", "link", "moved"),
    [
        ("docs/api.md", "[a](methods/ours.md#data)", "[a](methods/ours.md#data)"),
        (
            "docs/methods/ours.md",
            "[decisions.md](../decisions.md)",
            "[Its heading](../decisions.md)",
        ),
        ("CONTRIBUTING.md", "[a](docs/decisions.md)", "[a](decisions.md)"),
        ("docs/api.md", "[b](../CONTRIBUTING.md)", "[b](CONTRIBUTING.md)"),
        ("docs/api.md", "[n](../notebooks/use.ipynb)", "[n](notebooks/use.md)"),
        ("docs/api.md", "see [the code](../Makefile)", "see the code"),
        ("docs/api.md", "[lost](../lost.txt)", "[lost](../lost.txt)"),
        ("docs/api.md", "[out](https://example.org/a.md)", "[out](https://example.org/a.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site(
    hooks: dict[str, Any], page: str, link: str, moved: str
) -> None:
    files = _Files("methods/ours.md", "decisions.md", "CONTRIBUTING.md", "notebooks/use.md")
    source = page.rpartition("/")[0]
    here = source.removeprefix("docs").removeprefix("/")

    def put(found: Any) -> str:
        return str(hooks["_moved"](found, source, here, files, None))

    assert hooks["_LINK"].sub(put, link) == moved
