"""What the HTML report costs its reader: order, size, pictures, and what is shown meanwhile."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import records_factory as factory
import yaml
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from study_factory import EXPECTED, LAYOUT
from test_html_report import Node, Tree, write

from flrc.reporting import main
from flrc.results.pages import html
from flrc.results.pages.maps import LEVELS, MISSING, maps
from flrc.results.pages.order import OTHERS, PARTS, TABLES, in_order
from flrc.results.plots.svg import STYLE, svg
from flrc.results.records.record import Record

PROJECTIONS = ("q_proj", "k_proj")


def with_layers(blocks: int, **changes: Any) -> Record:
    """A record whose layers have 2 projections in each block."""
    made = factory.record("kfac", 0.3, **changes)
    made.run["config"]["form"] = {"name": "two_factor"}
    made.run["components"]["form"] = "two_factor"
    made.results["layers"] = [
        {
            "target": f"model.layers.{block}.self_attn.{projection}",
            "block": block,
            "projection": projection,
            "shape": [64, 64],
            "rank": None if projection == "q_proj" else 8,
            "relative_error": 0.12345,
            "score": 1.5 + block,
        }
        for block in range(blocks)
        for projection in PROJECTIONS
    ]
    return made


def page(root: Path) -> tuple[str, Node]:
    text = html.write_report(root, root / "report.html").read_text("utf-8")
    return text, Tree(text).root


def study(folder: Path, place: str = "") -> Path:
    (folder / "results").mkdir(parents=True)
    if place:
        (folder / "table.yaml").write_text(yaml.safe_dump({**LAYOUT, "place": place}), "utf-8")
        (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED), "utf-8")
    return folder


def test_the_tables_of_the_paper_come_first(tmp_path: Path) -> None:
    """By their numbers, not by their names; then its other parts, then what is no paper's."""
    places = {"ablation": "", "figure02": "Figure 2", "skipcat": "Abstract"}
    places |= {"table02": "Table 2", "table10": "Table 10", "z": "Table 1"}
    for name, place in places.items():
        write(study(tmp_path / name, place) / "results", factory.record("dense"))
    order = [(kind, folder.name) for kind, folder in in_order(sorted(tmp_path.iterdir()))]
    assert order == [
        (TABLES, "z"),
        (TABLES, "table02"),
        (TABLES, "table10"),
        (PARTS, "figure02"),
        (PARTS, "skipcat"),
        (OTHERS, "ablation"),
    ]
    _, root = page(tmp_path)
    sections = [n.attributes["id"] for n in root.all("section", **{"class": "study"})]
    assert sections == [f"study-{name}" for _, name in order]
    nav = root.all("nav")[0]
    assert [p.text for p in nav.all("p", **{"class": "kind"})] == [TABLES, PARTS, OTHERS]
    assert [a.attributes["href"] for a in nav.all("a")] == [*(f"#{s}" for s in sections), "#runs"]


def test_a_table_stands_before_the_plots(tmp_path: Path) -> None:
    for made in factory.sweep():
        write(study(tmp_path / "all" / made.run["id"]).parent / "one" / "results", made)
    text, _ = page(tmp_path / "all")
    chapter = text[text.index('id="study-one"') :]
    assert chapter.index("<table") < chapter.index("data:image/svg")


def test_a_plot_is_embedded_once(tmp_path: Path) -> None:
    """Two studies of the same runs: the second leads to the plots of the first."""
    for name in ("a", "b"):
        for made in factory.sweep():
            write(tmp_path / name / "results", made)
    _, root = page(tmp_path)
    images = [str(n.attributes["src"]) for n in root.all("img")]
    plots = [source for source in images if "svg+xml" in source]
    assert plots
    assert len(set(plots)) == len(plots)
    first, second = (root.all("section", id=f"study-{name}")[0] for name in ("a", "b"))
    shown = [str(n.attributes["id"]) for n in first.all("figure") if "id" in n.attributes]
    assert len(shown) == len(plots)
    links = [str(a.attributes["href"]) for a in second.all("a")]
    assert [link for link in links if link.startswith("#figure-")] == [f"#{n}" for n in shown]
    assert "the same plot as in a" in second.text


def test_a_layer_takes_little_space(tmp_path: Path) -> None:
    """A table row with its tags takes 130 characters; 240 runs of 210 layers have 50,000 rows."""
    sizes = []
    for blocks in (10, 210):
        write(tmp_path / str(blocks), with_layers(blocks))
        text, root = page(tmp_path / str(blocks))
        lists = [n for n in root.all("pre", **{"class": "rows"}) if "k_proj" in n.text]
        assert len(lists) == 1
        assert lists[0].text.startswith("target (model.layers....)")
        sizes.append(len(re.sub(r'src=(?:"[^"]*"|\'[^\']*\')', "", text)))
    assert (sizes[1] - sizes[0]) / (200 * len(PROJECTIONS)) < 50


def test_maps_have_a_pixel_for_each_layer() -> None:
    made = with_layers(5)
    del made.results["layers"][-1]
    (shown,) = maps(made)
    assert (shown.projections, shown.blocks) == (["q", "k"], 5)
    assert shown.alt == "parameters kept in blocks 0 to 4, mean in per cent: q 100, k 25"
    image = Image.open(io.BytesIO(base64.b64decode(shown.uri.partition(",")[2]))).convert("RGB")
    assert image.size == (5, 2)
    assert len({image.getpixel((block, 0)) for block in range(5)}) == 1
    assert image.getpixel((0, 0)) == (253, 231, 36)  # the end of viridis: dense
    assert image.getpixel((0, 1)) not in {image.getpixel((0, 0)), MISSING}
    assert image.getpixel((4, 1)) == MISSING
    assert LEVELS + 2 <= 256
    assert maps(factory.record("dense")) == []


def test_two_maps_if_the_ranks_change() -> None:
    made = with_layers(3)
    made.results["phases"] = [{"begin": 0.0}, {"begin": 0.25}]
    for layer in made.results["layers"]:
        layer["phase_ranks"] = [16, 4]
    first, last = maps(made)
    assert (first.title, last.title) == ("first steps", "from 25% of the reply on")
    assert first.alt.endswith("q 50, k 50")
    assert last.alt.endswith("q 12, k 12")


def test_maps_lead_to_their_runs(tmp_path: Path) -> None:
    write(tmp_path / "one" / "results", made := with_layers(4))
    _, root = page(tmp_path)
    (section,) = root.all("section", id="study-one")
    (shown,) = section.all("figure", **{"class": "map"})
    assert shown.all("a")[0].attributes["href"] == f"#run-{made.run['id']}"
    assert shown.all("img")[0].attributes["width"] == "32"
    assert [item.text for item in shown.all("li")] == ["q", "k"]


@pytest.fixture
def figure() -> Figure:
    """Two panels: a line with markers, and a single point with an error bar."""
    with rc_context(STYLE):
        made = Figure(figsize=(6, 3), layout="constrained")
        left, right = made.subplots(1, 2)
        left.plot(range(40), [k % 7 for k in range(40)], marker="o", label="ours & <theirs>")
        left.set_xlabel("rate")
        left.set_title("one")
        left.legend()
        right.errorbar([0.5], [2.0], yerr=[0.5], marker="s")
        made.suptitle("both")
    return made


def test_svg_is_short_and_keeps_every_mark(figure: Figure) -> None:
    whole = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(whole, format="svg")
        short = svg(figure)
    assert len(short) < len(whole.getvalue()) / 2
    for pattern in (r"<use ", r"<text", r"<path "):
        marks = [len(re.findall(pattern, text)) for text in (whole.getvalue(), short)]
        assert marks[0] == marks[1] > 0, pattern
    assert ">ours &amp; &lt;theirs&gt;</text>" in short
    defined = set(re.findall(r'id="(\w+)"', short))
    assert defined == set(re.findall(r"#(a\d+)", short))
    assert 'width="432pt" height="216pt" viewBox="0 0 432 216"' in short
    assert "style" not in short


def test_what_is_copied_to_a_place_is_clipped_by_its_group(figure: Figure) -> None:
    """On the copy itself, the clip would move with it: the mark would vanish."""
    with rc_context(STYLE):
        short = svg(figure)
    assert not re.search(r"<use [^>]*clip-path", short)
    assert re.search(r"<g [^>]*clip-path[^>]*><use ", short)


def test_a_figure_is_drawn_once(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    draw = Axes.draw
    monkeypatch.setattr(
        Axes, "draw", lambda self, *a, **k: (drawn.append(self), draw(self, *a, **k))
    )
    with rc_context(STYLE):
        svg(figure)
    assert len(drawn) == len(figure.axes)


def test_a_layout_measured_once_is_that_of_matplotlib(figure: Figure) -> None:
    """To two points: nothing is cut off, and no room is wasted."""
    with rc_context(STYLE):
        figure.draw_without_rendering()
        places = [axes.get_position().extents * (432, 216, 432, 216) for axes in figure.axes]
        svg(figure)
    for axes, place in zip(figure.axes, places, strict=True):
        found = axes.get_position().extents * (432, 216, 432, 216)
        assert abs(found - place).max() < 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_report_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "results", factory.record("kfac"))
    out = stream()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setattr("flrc.core.progress.BETWEEN_ITEMS", 0.0)
    monkeypatch.setattr(html, "figures", lambda *_: [])
    arguments = [str(tmp_path), "--html", str(tmp_path / "report.html")]
    assert main(arguments, Console(file=io.StringIO())) == 0
    if out.isatty():
        lines = [line.removesuffix("\x1b[K") for line in out.getvalue().split("\r")]
        assert "[2/3] tables and plots: study 2 of 2" in "\n".join(lines)
        assert "\n" not in out.getvalue()  # one line that is drawn again
        assert lines[-1] == ""
    else:
        assert out.getvalue().splitlines() == [
            "[1/3] reading the records",
            "[2/3] tables and plots",
            "[3/3] writing the page",
        ]


def test_text_of_a_picture_cannot_end_it(tmp_path: Path) -> None:
    """An address stands between single quotes, with as few characters replaced as possible."""
    for name in ('it\'s <b> & "100%" #1', "another"):
        for rate in (0.2, 0.3):
            write(tmp_path / "one" / "results", factory.record("kfac", rate, model=name))
    _, root = page(tmp_path)
    plots = [str(n.attributes["src"]) for n in root.all("img")]
    texts = [unquote(source) for source in plots if "svg+xml" in source]
    assert any('it\'s &lt;b&gt; &amp; "100%" #1' in text for text in texts)
