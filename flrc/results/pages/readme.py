"""Title and first paragraph of a study's README."""

from __future__ import annotations

import re


def heading(readme: str) -> str:
    """The first heading of a Markdown text; empty if there is none."""
    match = re.search(r"^#\s+(.+)$", readme, re.MULTILINE)
    return _unmarked(match[1]) if match else ""


def first_paragraph(readme: str) -> str:
    """The first paragraph that is not a heading, table, list or code, without its markup."""
    for block in re.split(r"\n\s*\n", readme):
        lines = [line for line in block.strip("\n").splitlines() if not line.startswith("#")]
        if lines and not re.match(r"\||[-*] |    |```|<", lines[0]):
            return _unmarked(" ".join(line.strip() for line in lines))
    return ""


def _unmarked(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*`]", "", text).strip()
