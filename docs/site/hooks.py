"""Hooks of MkDocs (mkdocs.yml): pages from outside of docs/, anchors as on GitHub, no network.

Pages link to files of the repository by relative paths, so that they work on GitHub. Here the same
links lead to pages of the site; a link to a file that the site does not have becomes its name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
#: Pages of the repository that are pages of the site too, at the same path.
OUTSIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/results.md")
NOTEBOOKS = "notebooks"
#: Pages whose hits in the search count twice, and those that name everything and count less.
_GUIDES = (
    *("tutorial.md", "own-study.md", "own-data.md", "predicting.md", "exporting.md"),
    "while-it-runs.md",
)
_LOOKED_UP = (
    *("CHANGELOG.md", "CONTRIBUTING.md", "api.md", "architecture.md", "benchmarks/results.md"),
    *("commands.md", "configuration.md", "costs.md", "decisions.md", "performance.md"),
    "reliability.md",
)
_BOOSTS = {**dict.fromkeys(_GUIDES, 2.0), **dict.fromkeys(_LOOKED_UP, 0.3)}
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
#: Roles of reStructuredText in docstrings, as they are left by Markdown.
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod|obj):(?=<code>)")
#: The one script that the theme's plugin "offline" loads from elsewhere, and our copy of it.
_SHIM, _OUR_SHIM = "https://unpkg.com/iframe-worker/shim", "site/iframe-worker.js"
_LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc=["']?https?:[^>]*>"""
    r"""|<link(?![^>]*\srel=["']?(?:alternate|canonical|next|prev)\b)[^>]*\shref=["']?https?:[^>]*>"""
)
_HEADING = re.compile(r"^# (?P<title>.+)$", re.MULTILINE)
_FENCED = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give headings the anchors that GitHub gives them, so that one link serves both."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and the notebooks with their pictures."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for notebook in sorted((ROOT / NOTEBOOKS).glob("*.ipynb")):
        text, pictures = _notebook(notebook)
        files.append(File.generated(config, f"{NOTEBOOKS}/{notebook.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{NOTEBOOKS}/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site.

    The weight of the page in the search is set here too: in the file it would be shown on GitHub.
    """
    here = page.file.src_uri
    page.meta["search"] = {"boost": _BOOSTS.get(here, 1.0)}
    generated = here in OUTSIDE or here.startswith(f"{NOTEBOOKS}/")
    folder = posixpath.dirname(here if generated else f"docs/{here}")
    parts = _FENCED.split(markdown)
    for number in range(0, len(parts), 2):
        parts[number] = _LINK.sub(
            lambda found: _moved(found, folder, posixpath.dirname(here), files, config),
            parts[number],
        )
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out the roles of reStructuredText from docstrings."""
    return _ROLE.sub("", html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load nothing from elsewhere."""
    shim = posixpath.relpath(_OUR_SHIM, posixpath.dirname(page.file.dest_uri) or ".")
    return _on_its_own(output, page.file.src_uri, shim)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Load nothing from elsewhere, likewise of the page about missing pages."""
    return _on_its_own(output_content, template_name, f"/{_OUR_SHIM}")


def _on_its_own(output: str, name: str, shim: str) -> str:
    """A page with our copy of the theme's script.

    Raises:
        PluginError: it still loads something from elsewhere.
    """
    output = output.replace(_SHIM, shim)
    loaded = _LOADED.search(output)
    if loaded is not None:
        raise PluginError(f"{name} loads something from elsewhere: {loaded[0]}")
    return output


def _moved(found: re.Match[str], source: str, here: str, files: Files, config: MkDocsConfig) -> str:
    """A link as it has to be on the site.

    Args:
        found: the link.
        source: folder of its page in the repository.
        here: folder of its page on the site.
        files: of the site; a picture from elsewhere in the repository becomes one of them.
        config: of the site.
    """
    to = found["to"]
    if "://" in to or to.startswith(("mailto:", "/")):
        return found[0]
    target = posixpath.normpath(posixpath.join(source, to))
    place = target.removeprefix("docs/")
    if place.endswith(".ipynb"):
        place = f"{place.removesuffix('.ipynb')}.md"
    if files.get_file_from_path(place) is None:
        if not (ROOT / target).exists() or target.startswith("docs/"):
            # A link that leads nowhere fails the build.
            return found[0]
        if not found["picture"]:
            return found["text"]
        files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    path = posixpath.relpath(place, here or ".")
    text = found["text"]
    if text == posixpath.basename(to):
        # Names of files are for readers of the repository.
        text = _title(files.get_file_from_path(place)) or text
    return f"{found['picture']}[{text}]({path}{found['anchor'] or ''})"


def _title(file: File | None) -> str | None:
    """The first heading of a page."""
    heading = None if file is None else _HEADING.search(file.content_string)
    return None if heading is None else heading["title"]


def _notebook(path: Path) -> tuple[str, dict[str, Any]]:
    """A notebook as Markdown, and its pictures by name."""
    from nbconvert import MarkdownExporter

    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_filename(str(path), resources)
    return text, made.get("outputs", {})
