"""Where a run keeps parameters: block by projection, one coloured cell for each layer."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean

from flrc.results.plots.ranks_plot import Panel, panels_of_run, ranked
from flrc.results.records.record import Record

COLOURS = "viridis"
LEVELS = 100
"""Steps of the scale; one more colour stands for a layer without a share."""
MISSING = (217, 217, 217)


@dataclass(frozen=True)
class Map:
    """One image with a pixel for each layer; a page enlarges it.

    Attributes:
        title: What it shows of the run, such as the steps that use these ranks; may be empty.
        projections: The rows.
        blocks: Number of columns.
        alt: What it shows, in words.
        uri: The PNG file as a ``data:`` address.
    """

    title: str
    projections: list[str]
    blocks: int
    alt: str
    uri: str


def maps(record: Record) -> list[Map]:
    """One map, or two for a run whose ranks change; none if the record has no ranks.

    Raises:
        UserError: If this version does not know the record's form.
    """
    if not ranked([record]):
        return []
    return [_map(panel) for panel in panels_of_run(record, "")]


def _map(panel: Panel) -> Map:
    rows = [name.replace("_proj", "") for name in panel.projections]
    blocks = len(panel.shares[0])
    means = [
        f"{name} {100 * fmean(known):.0f}"
        for name, shares in zip(rows, panel.shares, strict=True)
        if (known := [share for share in shares if math.isfinite(share)])
    ]
    alt = f"parameters kept in blocks 0 to {blocks - 1}, mean in per cent: {', '.join(means)}"
    return Map(panel.title.lstrip(", "), rows, blocks, alt, _png(panel.shares))


def _png(shares: Sequence[Sequence[float]]) -> str:
    from PIL import Image

    cells = [
        LEVELS + 1 if math.isnan(share) else round(LEVELS * min(max(share, 0.0), 1.0))
        for row in shares
        for share in row
    ]
    image = Image.new("P", (len(shares[0]), len(shares)))
    image.putpalette(_palette())
    image.putdata(cells)
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


@cache
def _palette() -> list[int]:
    from matplotlib import colormaps

    colours = colormaps[COLOURS]([level / LEVELS for level in range(LEVELS + 1)], bytes=True)
    return [int(part) for colour in colours for part in colour[:3]] + list(MISSING)
