"""What MkDocs does besides (``hooks`` in mkdocs.yml): links to the repository, colours of code."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.flrc")

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
CODE = re.compile(r"(<(?:pre|code)\b.*?</(?:pre|code)>)", re.DOTALL)
UNIT = re.compile(r"(?<=\d) (?=%|[BM]\b|GB\b|GiB\b|MB\b)")
STYLE = "css/highlight.css"
NARROW = """
table { display: block; overflow-x: auto; }
table { font-size: 0.9rem; }
.highlight pre { overflow-x: auto; }
h1 code, h2 code, h3 code, h4 code { border: 0; padding: 0; background: none; color: inherit; }
.dropdown-menu { max-height: 80vh; overflow-y: auto; }
.bs-sidebar .card { max-height: calc(100vh - 7rem); overflow: hidden auto; }
.bs-sidebar .nav { flex-wrap: nowrap; }
.bs-sidebar .nav-link { overflow-wrap: anywhere; }
.bs-sidebar .navbar-toggler { font-size: 1rem; padding-left: 0; }
.bs-sidebar .navbar-toggler::after { content: " On this page"; }
@media (min-width: 992px) and (max-width: 1199px) {
  .navbar .nav-link[rel] { display: none; }
}
@media (max-width: 575px) {
  h1 { font-size: 2rem; }
  .table > :not(caption) > * > * { padding: 0.3rem; }
  .table td:last-child:not([style]) { min-width: 9rem; }
}
"""
"""Wide tables and code scroll in their own frame, and so do the long menu of methods and a page's
contents, whose button has a name. The bar of menus stays one line, also on a small laptop; tables
are set tighter on a telephone, with room for words in the last column."""


def on_page_content(html: str, **_: Any) -> str:
    """Keep a number and its unit on one line, except in code."""
    parts = CODE.split(html)
    parts[::2] = [UNIT.sub("\u00a0", part) for part in parts[::2]]
    return "".join(parts)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository that are no part of the site, instead of linking to them.

    Images are copied into the site. A missing file is a warning, which ends a strict build.
    """
    here = (ROOT / "docs" / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        if not target or ":" in target:
            return link[0]
        place = (here / target).resolve()
        if place.is_relative_to(ROOT / "docs"):
            return link[0]
        if not place.exists():
            log.warning("%s: %s does not exist", page.file.src_uri, link["target"])
        path = place.relative_to(ROOT)
        if link["image"]:
            up = "../" * page.file.src_uri.count("/")
            return f"![{link['text']}]({up}{_copy(place)})"
        text = link["text"]
        if text.strip("`") in {str(path), str(path.parent), path.name}:
            return f"`{path}`"
        before = markdown[: link.start()].rpartition("\n\n")[2]
        inside = before.count("(") > before.count(")")  # no brackets in brackets
        return f"{text}, `{path}`" if inside else f"{text} (`{path}`)"

    return LINK.sub(named, markdown)


def _copy(image: Path) -> str:
    """Where the site has an image of the repository."""
    return "images/" + "_".join(image.relative_to(ROOT).parts[1:])


def on_files(files: Files, config: Any) -> Files:
    """Add the style sheet of code, tables and menus, and images of the repository."""
    from pygments.formatters import HtmlFormatter

    for page in (ROOT / "docs").rglob("*.md"):
        for link in LINK.finditer(page.read_text("utf-8")):
            place = (page.parent / link["target"]).resolve()
            if link["image"] and place.is_file() and not place.is_relative_to(ROOT / "docs"):
                files.append(File.generated(config, _copy(place), abs_src_path=str(place)))

    styles = HtmlFormatter(style="default").get_style_defs(".highlight")
    files.append(File.generated(config, STYLE, content=styles + NARROW))
    return files
