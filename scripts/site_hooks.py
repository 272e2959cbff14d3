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
STYLE = "css/highlight.css"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files of the repository that are no part of the site, instead of linking to them.

    A missing file is a warning, which ends a strict build.
    """
    here = (ROOT / "docs" / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        target = link["target"].partition("#")[0]
        if not target or ":" in target or link["image"]:
            return link[0]
        place = (here / target).resolve()
        if place.is_relative_to(ROOT / "docs"):
            return link[0]
        if not place.exists():
            log.warning("%s: %s does not exist", page.file.src_uri, link["target"])
        path = place.relative_to(ROOT)
        return link["text"] if str(path) in link["text"] else f"{link['text']} (`{path}`)"

    return LINK.sub(named, markdown)


def on_files(files: Files, config: Any) -> Files:
    """Add the style sheet of highlighted code."""
    from pygments.formatters import HtmlFormatter

    styles = HtmlFormatter(style="default").get_style_defs(".highlight")
    files.append(File.generated(config, STYLE, content=styles))
    return files
