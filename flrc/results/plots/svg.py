"""A figure as a short SVG text, for pages that hold many of them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = "DejaVu Sans"
"""The font by which matplotlib measures text; the next ones on a page are about as wide."""
STYLE = {
    "font.family": [FONT],
    "svg.fonttype": "none",  # text stays text: short, and what searches and screen readers find
    "svg.hashsalt": "flrc",
    "axes.titley": 1.0,  # no axis on top, which a title would have to avoid: looking takes long
}
"""Settings of matplotlib under which a figure is made and written."""
NAMESPACE = "http://www.w3.org/2000/svg"
ROOT = {
    "xmlns": NAMESPACE,
    "font-family": f"{FONT},Verdana,sans-serif",
    "stroke-linejoin": "round",
    "stroke-linecap": "butt",
}
"""Attributes of the whole picture; elements inherit the last three."""
MARGINS = (32, 26, 4, 14)
"""Points that ticks and labels usually take on the left, below, on the right and above."""
INHERITED = re.compile(r"fill|stroke|font|text-anchor")
"""Attributes that a group may have in place of all its elements."""


def svg(figure: Figure) -> str:
    """The figure, laid out and drawn once; its text is set in the reader's fonts.

    Sizes are in points. Every property is an attribute, because a page's content security policy
    may forbid style sheets in pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasAgg(figure)  # a layout is measured with its canvas
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if not axis.get_label_text():
                axis.set_label_coords(0, 0)  # else the place of a label that is not there is sought
    if (engine := figure.get_layout_engine()) is not None:
        for axes in figure.axes:
            _measure_once(axes, figure.dpi / 72)
        engine.execute(figure)
        figure.set_layout_engine("none")
    text = StringIO()
    # Not savefig, which would draw the figure once more to lay it out.
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None})
    return shortened(text.getvalue())


def _measure_once(axes: Axes, point: float) -> None:
    """Let the first of the two rounds of a layout take usual margins: measuring takes long.

    The second round measures, at a place that is nearly the final one; ``point`` is in pixels.
    """
    from matplotlib.transforms import Bbox

    def usual(*_: Any, **__: Any) -> Bbox:
        del axes.get_tightbbox  # from now on the method of the class
        axes.apply_aspect()
        box = axes.get_window_extent()
        left, bottom, right, top = (point * margin for margin in MARGINS)
        return Bbox.from_extents(box.x0 - left, box.y0 - bottom, box.x1 + right, box.y1 + top)

    axes.get_tightbbox = usual  # type: ignore[method-assign]


def shortened(text: str) -> str:
    """An SVG file of matplotlib without what does not change the picture."""
    root = ET.fromstring(text)
    names = _names(root)
    for element in root.iter():
        _tidy(element, names)
    for child in list(root):
        if child.tag == "metadata" or child.find("style") is not None:  # ROOT has what it says
            root.remove(child)
    _regroup(root)
    size = {key: root.attrib[key] for key in ("width", "height", "viewBox")}
    root.attrib.clear()
    root.attrib.update(ROOT | size)
    return ET.tostring(root, encoding="unicode")


def _names(root: ET.Element) -> dict[str, str]:
    """A short name for every id that something refers to."""
    used: dict[str, str] = {}
    for element in root.iter():
        for value in element.attrib.values():
            for name in re.findall(r"^#(.+)$|url\(#(.+?)\)", value):
                used.setdefault(name[0] or name[1], f"a{len(used)}")
    return used


def _tidy(element: ET.Element, names: dict[str, str]) -> None:
    """Properties as attributes, short names and numbers."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag not in ("text", "tspan"):
        element.text = None
    given = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for part in given.pop("style", "").split(";"):
        key, colon, value = part.partition(":")
        if colon:
            given[key.strip()] = value.strip()
    given.pop("font-family", None)
    name = given.pop("id", None)
    if name in names:
        given["id"] = names[name]
    element.attrib.clear()
    for key, value in given.items():
        if key == "transform":
            value = re.sub(r"rotate\(-?0 [^)]*\)", "", value).strip()
        if key in ("href", "clip-path"):
            value = re.sub(r"#(\w+)", lambda found: f"#{names.get(found[1], found[1])}", value)
        elif key != "id":
            value = _numbers(value)
        if value:
            element.set(key, value)


def _numbers(text: str) -> str:
    """Two decimals are enough, in points; no more spaces than needed."""
    text = re.sub(r"-?\d*\.\d+(?!\w)", _rounded, text)
    text = " ".join(text.split())
    return re.sub(r" ?([A-Zz]) ?", r"\1", text) if text[:2] == "M " else text


def _rounded(found: re.Match[str]) -> str:
    short = f"{float(found[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short


def _regroup(parent: ET.Element) -> None:
    """Take out groups that change nothing; give to a group what all its elements share."""
    children: list[ET.Element] = []
    for child in parent:
        if child.tag == "g":
            _regroup(child)
            _share(child)
            if len(child) == 1 and _may_have_all(child[0], child):
                child[0].attrib.update(child.attrib)
                child.attrib.clear()
            if not child.attrib:
                children += child
                continue
        elif child.tag == "defs":
            _regroup(child)
        children.append(child)
    parent[:] = children


def _may_have_all(element: ET.Element, group: ET.Element) -> bool:
    """Whether the only element of a group may have the group's attributes instead."""
    if element.attrib.keys() & group.attrib.keys():
        return False
    # Both, and the place of a copy, move what the other attributes of the same element refer to.
    return element.tag != "use" and "transform" not in element.attrib | group.attrib


def _share(group: ET.Element) -> None:
    """Move the inherited attributes that all elements of a group have alike to the group."""
    elements = [child for child in group if child.tag != "defs"]
    if len(elements) < 2 or len(elements) < len(group):
        return
    for key, value in list(elements[0].attrib.items()):
        alike = all(other.get(key) == value for other in elements)
        if alike and INHERITED.match(key) and key not in group.attrib:
            group.set(key, value)
            for other in elements:
                del other.attrib[key]
