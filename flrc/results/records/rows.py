"""Parts of a record as tables: for the terminal, the HTML report and the tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flrc.core.jsonfile import canonical
from flrc.results.records.measurement import Measurement

DASH = "\N{EN DASH}"
"""Marks a missing value."""


@dataclass(frozen=True)
class Rows:
    """A table: cells are texts, or numbers and None for the tracker."""

    titles: list[str]
    rows: list[list[Any]]


def measurements(measured: Iterable[Measurement]) -> Rows:
    """Every measurement, with its settings in the last column."""
    rows = []
    for m in measured:
        error = DASH if m.stderr is None else f"{m.stderr:.3g}"
        values = [f"{m.value:.6g}", error, m.unit, str(m.count), f"{m.rate:.4f}"]
        rows.append([m.name, *values, listed(m.settings)])
    return Rows(["measurement", "value", "± stderr", "unit", "n", "rate", "settings"], rows)


def candidates(search: Mapping[str, Any]) -> Rows:
    """Every schedule that was compared; ``search`` is a record's ``schedule_search``."""
    rows = []
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
        rows.append([switch, drop, rates, str(row["items"]), *numbers, str(row["fate"])])
    titles = ["switch", "drop", "rates", "items", "score", "± stderr", "average", "stored", "fate"]
    return Rows(titles, rows)


def stages(recorded: Sequence[Mapping[str, Any]]) -> Rows:
    """Seconds and peak memory of every stage of a run."""
    rows = []
    for stage in recorded:
        peak = stage.get("peak_bytes")
        memory = "" if peak is None else f"{peak / 2**30:.2f} GiB"
        note = "from the cache" if stage.get("cached") else ""
        rows.append([str(stage.get("name")), f"{stage.get('seconds') or 0:.1f}", memory, note])
    return Rows(["stage", "seconds", "peak", "note"], rows)


def layers(recorded: Sequence[Mapping[str, Any]]) -> Rows:
    """Rank and error of every layer; further columns if the record has them."""
    scored = any(layer.get("score") is not None for layer in recorded)
    phased = any(len(layer.get("phase_ranks") or []) > 1 for layer in recorded)
    pivoted = any("largest_coefficient" in layer for layer in recorded)
    titles = ["target", "shape", "rank"]
    titles += ["ranks by phase"] * phased + ["score"] * scored
    titles += ["relative error"] + ["largest coefficient"] * pivoted
    rows = []
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
        rows.append(cells)
    return Rows(titles, rows)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as a flat one, with keys joined by dots; lists are values."""
    if not isinstance(values, dict) or not values:
        return {prefix: values} if prefix else {}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def indented(values: Mapping[str, Any], depth: int = 0) -> str:
    """Nested mappings as lines ``key: value``, inner ones further to the right."""
    lines = []
    for key, value in values.items():
        inner = isinstance(value, dict) and bool(value)
        lines.append(f"{'  ' * depth}{key}:{'' if inner else ' ' + plain(value)}")
        lines += [indented(value, depth + 1)] if inner else []
    return "\n".join(lines)


def plain(value: Any) -> str:
    """A value of a configuration as text: strings as they are, anything else as JSON."""
    return value if isinstance(value, str) else canonical(value)


def listed(values: Mapping[str, Any], text: Callable[[Any], str] = plain) -> str:
    """``key=value`` of nested mappings, separated by commas."""
    return ", ".join(f"{key}={text(value)}" for key, value in flatten(values).items())


def _rank(rank: int | None) -> str:
    return "dense" if rank is None else str(rank)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
