"""Parts of a record as tables of text: what the terminal and the HTML report both show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "\N{EN DASH}"
"""What stands for a value that is not there."""


@dataclass(frozen=True)
class Rows:
    """A table of text.

    Attributes:
        titles: Headings of the columns.
        rows: Cells, one list for each row.
    """

    titles: list[str]
    rows: list[list[str]]


def candidates(search: Mapping[str, Any]) -> Rows:
    """Every schedule that competed; ``search`` is a record's ``schedule_search``."""
    found = []
    for row in search.get("candidates", []):
        rates = ", ".join(f"{phase['rate']:.3f}" for phase in row["phases"])
        numbers = [
            DASH if row[key] is None else f"{row[key]:{form}}"
            for key, form in (
                ("score", ".2f"),
                ("stderr", ".2f"),
                ("rate", ".4f"),
                ("stored", ".3f"),
            )
        ]
        drop = "constant" if row["drop"] == 0 else f"{row['drop']:+g}"
        switch = DASH if row["drop"] == 0 else f"after {row['switch']}"
        found.append([switch, drop, rates, str(row["items"]), *numbers, str(row["fate"])])
    titles = ["switch", "drop", "rates", "items", "score", "± stderr", "average", "stored", "fate"]
    return Rows(titles, found)


def stages(recorded: Sequence[Mapping[str, Any]]) -> Rows:
    """Seconds and peak memory of every stage of a run."""
    found = []
    for stage in recorded:
        peak = stage.get("peak_bytes")
        found.append(
            [
                str(stage.get("name")),
                f"{stage.get('seconds') or 0:.1f}",
                "" if peak is None else f"{peak / 2**30:.2f} GiB",
                "from the cache" if stage.get("cached") else "",
            ]
        )
    return Rows(["stage", "seconds", "peak", "note"], found)


def layers(recorded: Sequence[Mapping[str, Any]]) -> Rows:
    """Rank and error of every layer; further columns where the record has them."""
    scored = any(layer.get("score") is not None for layer in recorded)
    phased = any(len(layer.get("phase_ranks") or []) > 1 for layer in recorded)
    pivoted = any("largest_coefficient" in layer for layer in recorded)
    titles = ["target", "shape", "rank"]
    titles += ["ranks by phase"] * phased + ["score"] * scored
    titles += ["relative error"] + ["largest coefficient"] * pivoted
    found = []
    for layer in recorded:
        cells = [str(layer.get("target")), " x ".join(map(str, layer.get("shape", [])))]
        cells.append(_rank(layer.get("rank")))
        if phased:
            cells.append(", ".join(map(_rank, layer.get("phase_ranks") or [])))
        if scored:
            cells.append(_digits(layer.get("score")))
        cells.append(_digits(layer.get("relative_error")))
        if pivoted:
            cells.append(_digits(layer.get("largest_coefficient")))
        found.append(cells)
    return Rows(titles, found)


def _rank(rank: int | None) -> str:
    return "dense" if rank is None else str(rank)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
