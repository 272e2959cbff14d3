"""The site builds without a warning and has every page; no link is dead."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import site_hooks
from site_docstrings import ROLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    ROOT / "experiments" / "README.md",
]
CODE_COLUMNS = 114
"""Of a code block at a window of 1280 pixels; README and the repository's pages have 100."""
LINK = re.compile(r"(?<!`)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


def prose(path: Path) -> str:
    """A page without its code."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`|^    .*$", "", text, flags=re.MULTILINE)


def links(path: Path) -> list[str]:
    return [link["target"] for link in LINK.finditer(prose(path))]


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", head.lower()).strip() for head in heads)
    return {re.sub(r"[ ]+", "-", word) for word in words}


def dead(path: Path) -> list[str]:
    """Links of a page to files or headings that do not exist, and addresses of a wrong form."""
    found = []
    for target in links(path):
        parts = urlsplit(target)
        if parts.scheme:
            proper = parts.scheme == "https" and "." in parts.netloc and not parts.username
            found += [] if proper else [target]
            continue
        place = (path.parent / parts.path).resolve() if parts.path else path
        known = place.exists() and place.is_relative_to(ROOT)
        if not known or (parts.fragment and parts.fragment not in anchors(place)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    assert dead(page) == []


def test_a_dead_link_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path.resolve())
    page = tmp_path / "page.md"
    page.write_text(
        "# A head, and more\n[a](#a-head-and-more) [b](#b) [c](page.md#a) [d](other.md)\n"
        "[e](http://x.org) [f](https://nowhere) [g](https://x.org/y) `[h](code.md)`\n"
    )
    assert dead(page) == ["#b", "page.md#a", "other.md", "http://x.org", "https://nowhere"]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Also fails for a page that is not in the navigation, and for a dead link or anchor."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    built = subprocess.run(
        [*command, "--site-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    for method in set(DOCS.glob("methods/*.md")) - {DOCS / "methods" / "index.md"}:
        assert (tmp_path / "methods" / method.stem / "index.html").is_file()
        assert f"methods/{method.stem}/" in (tmp_path / "index.html").read_text("utf-8")
    reference = (tmp_path / "api" / "index.html").read_text("utf-8")
    for name in ("compress", "run", "load", "generate", "save", "register", "UserError"):
        assert re.search(rf'id="flrc\.[\w.]*{name}"', reference), name
    assert ":func:" not in reference
    python = (tmp_path / "library" / "index.html").read_text("utf-8")
    assert '<span class="kn">import</span>' in python  # highlighted
    styles = (tmp_path / "css" / "highlight.css").read_text("utf-8")
    assert ".highlight .kn" in styles
    assert "table { display: block; overflow-x: auto; }" in styles  # on a narrow screen
    assert ".bs-sidebar .card { max-height:" in styles  # the contents of Options are long
    for made in tmp_path.rglob("index.html"):
        text = made.read_text("utf-8")
        heads = re.findall(r'<h[1-6] id="([^"]+)"', text)
        assert all(head[0].isalpha() for head in heads), made  # else the contents' script fails
        assert text.count("<h1") <= 1, made
    returns = reference.partition("Returns:")[2].partition("Raises:")[0]
    assert returns.count("<li") == 1  # compress: one tuple, described in two lines


def test_every_preset_has_a_page() -> None:
    presets = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")} - {"dense"}
    index = (DOCS / "methods" / "index.md").read_text("utf-8")
    for method in presets:
        assert (DOCS / "methods" / f"{method}.md").is_file()
        assert f"| [`{method}`]({method}.md) |" in index, method
    assert presets == {page.stem for page in DOCS.glob("methods/*.md")} - {"index"}


def test_files_of_the_repository_are_named_and_have_to_exist(
    caplog: pytest.LogCaptureFixture,
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="methods/flrc.md"))
    with caplog.at_level(logging.WARNING):
        text = "[the list](../../README.md), [PLRD](plrd.md), [x](https://x.org)"
        shown = site_hooks.on_page_markdown(text, page)
        assert shown == "the list (`README.md`), [PLRD](plrd.md), [x](https://x.org)"
        assert not caplog.messages
        site_hooks.on_page_markdown("[gone](../../GONE.md)", page)
    assert caplog.messages == ["methods/flrc.md: ../../GONE.md does not exist"]


def test_no_brackets_stand_in_brackets() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="choose.md"))
    text = (
        "(2 windows; [all numbers](../README.md)). See [A](../README.md) and ([A](../README.md))."
    )
    shown = "(2 windows; all numbers, `README.md`). See A (`README.md`) and (A, `README.md`)."
    assert site_hooks.on_page_markdown(text, page) == shown
    assert site_hooks.on_page_markdown("[README.md](../README.md)", page) == "`README.md`"


def test_a_number_stays_with_its_unit() -> None:
    html = "<p>20 % of 8 B, 3 GiB, 4 Bytes</p><pre># 20 %</pre><code>8 B</code> 5 %"
    shown = site_hooks.on_page_content(html).replace("\u00a0", "~")
    expected = "<p>20~% of 8~B, 3~GiB, 4 Bytes</p><pre># 20 %</pre><code>8 B</code> 5~%"
    assert shown == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_has_a_language_and_fits_into_its_frame(page: Path) -> None:
    """Formulas are no shell: highlighted as such, their quotes are errors in red."""
    fenced = False
    for line in page.read_text("utf-8").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            assert not fenced or line.lstrip("` "), "a language behind ```"
        elif fenced or line.startswith("    "):
            assert len(line.removeprefix("    ")) <= CODE_COLUMNS, line


def test_roles_become_code() -> None:
    text = "as :func:`~flrc.load` and :class:`flrc.errors.UserError`, or :meth:`run`"
    assert ROLE.sub(r"`\g<name>`", text) == "as `load` and `UserError`, or `run`"
