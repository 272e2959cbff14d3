"""The plot of :mod:`flrc.results.plots.stability`: agreement of runs, and the range of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.results.plots.style import colour, finish, marker

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

WIDTH = 13.0
ROW_HEIGHT = 4.6
"""Least height in inches for one model and rate."""
LANE_HEIGHT = 1.25
TICKS = 6
"""Token counts below an axis at most."""
FEW_LAYERS = 80
"""Up to this number of layers, each has a marker."""
MEASURES = {
    "spearman_ranks": "Spearman correlation",
    "mean_relative_difference": "mean relative difference (%)",
}


def draw(frame: pd.DataFrame, numbers: pd.DataFrame, path: Path) -> None:
    """Draw one row of panels for each model and rate.

    Left: agreement of two runs against the calibration tokens, or if there is only one number of
    tokens, a line of points for each method with a pair. Right: mean and range of each layer's
    keep share, in a lane for each method.

    Args:
        frame: Layers of runs, see :func:`~.stability.layers`.
        numbers: Pairs of runs, see :func:`~.stability.pairs`.
        path: The PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    style = {name: (colour(i), marker(i)) for i, name in enumerate(numbers["method"].unique())}
    cells = numbers.groupby(["model", "rate"], sort=False)
    height = max(ROW_HEIGHT, 1.2 + LANE_HEIGHT * len(style))
    figure = Figure(figsize=(WIDTH, height * len(cells) + 0.6), layout="constrained")
    rows = figure.subfigures(len(cells), 1, squeeze=False)[:, 0]
    for row, ((model, rate), some) in zip(rows, cells, strict=True):
        row.suptitle(f"{model}, rate {rate:g}", fontsize=11)
        left, right = row.subfigures(1, 2, width_ratios=[1, 1.9])
        shown = {name: style[name] for name in style if name in set(some["method"])}
        runs = frame[(frame["model"] == model) & (frame["rate"] == rate)]
        runs = runs[runs["method"].isin(shown)]
        several = len({*some["tokens"], *some["other_tokens"]}) > 1
        left.suptitle(_left_title(some), fontsize=9)
        agreement = left.subplots(2, 1)
        for axes, measure in zip(agreement, MEASURES, strict=True):
            (_against_tokens if several else _strips)(axes, some, measure, shown)
        lanes = right.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        chosen = {method: _most_tokens(runs[runs["method"] == method]) for method in shown}
        right.suptitle(_right_title(chosen), fontsize=9)
        right.supylabel("keep share (parameters used / dense)", fontsize=9)
        right.supxlabel("layers by projection, first block to last", fontsize=9)
        places = _places(lanes, runs)
        for axes, (method, group) in zip(lanes, chosen.items(), strict=True):
            axes.set_title(method, fontsize=8, loc="left", pad=2, color=style[method][0])
            _lane(axes, group, places, *style[method])
        for axes in agreement:
            finish(axes, labels=8)
        for axes in lanes:
            finish(axes, "y", labels=8)
    handles = [Line2D([], [], color=c, marker=m, label=name) for name, (c, m) in style.items()]
    grey: dict[str, Any] = {"color": "0.35", "linestyle": "none", "marker": "o"}
    if numbers["spearman_scores"].notna().any():
        handles += [
            Line2D([], [], label="keep shares (ranks)", **grey),
            Line2D([], [], label="scores", markerfacecolor="white", **grey),
        ]
    if any(not _of_seeds(group) for _, group in numbers.groupby(["model", "rate", "method"])):
        label = "one seed: against its run with the most tokens"
        handles.append(Line2D([], [], color="0.35", linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5),
                  frameon=False, fontsize=9)  # fmt: skip
    figure.savefig(path, dpi=130)


Style = dict[str, tuple[str, str]]
"""Method -> colour and marker."""


def _of_seeds(group: pd.DataFrame) -> bool:
    """Whether a method has pairs of seeds; otherwise its pairs of sizes are drawn."""
    return bool((group["seed"] != group["other_seed"]).any())


def _curves(
    some: pd.DataFrame, measure: str, method: str
) -> Iterator[tuple[pd.DataFrame, bool, bool]]:
    """Tokens and values of a method's pairs; whether of seeds; whether of scores (hollow)."""
    import pandas as pd

    group = some[some["method"] == method]
    seeds = _of_seeds(group)
    group = group[group["seed"] != group["other_seed"]] if seeds else group
    for column in (measure, "spearman_scores") if measure == "spearman_ranks" else (measure,):
        values = group[column] * (1 if measure == "spearman_ranks" else 100)
        points = pd.DataFrame({"tokens": group["tokens"], "value": values}).dropna()
        yield points, seeds, column != measure


def _against_tokens(axes: Axes, some: pd.DataFrame, measure: str, style: Style) -> None:
    for place, (method, (hue, shape)) in enumerate(style.items()):
        for points, seeds, hollow in _curves(some, measure, method):
            # Equal values stay visible.
            aside = 1.03 ** (2 * place - len(style) + 1 + 0.6 * hollow)
            axes.plot(points["tokens"] * aside, points["value"], shape, color=hue, alpha=0.6,
                      markersize=4, markerfacecolor="white" if hollow else hue)  # fmt: skip
            mean = points.groupby("tokens")["value"].mean()
            line = "--" if not seeds else ":" if hollow else "-"
            axes.plot(mean.index * aside, mean, line, color=hue, linewidth=1.3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(_apart(sorted(set(some["tokens"]))), minor=False)
    axes.xaxis.set_major_formatter(lambda tokens, _: compact(tokens))
    axes.set_ylabel(MEASURES[measure], fontsize=9)
    axes.margins(x=0.1, y=0.12)
    axes.set_ylim(*_limits(measure, *axes.get_ylim()))
    if measure == "spearman_ranks":
        axes.tick_params(labelbottom=False)
    else:
        axes.set_xlabel("calibration text (tokens: samples x length)", fontsize=9)


def _strips(axes: Axes, some: pd.DataFrame, measure: str, style: Style) -> None:
    for place, (method, (hue, shape)) in enumerate(style.items()):
        for points, _, hollow in _curves(some, measure, method):
            height = [place + 0.22 * hollow - 0.11 * (measure == "spearman_ranks")] * len(points)
            axes.plot(points["value"], height, shape, color=hue, alpha=0.75, markersize=6,
                      markerfacecolor="white" if hollow else hue)  # fmt: skip
    axes.set_yticks(range(len(style)), [name.replace(" · ", "\n") for name in style])
    axes.set_ylim(len(style) - 0.5, -0.5)
    axes.set_xlabel(MEASURES[measure], fontsize=9)
    axes.margins(x=0.08)
    axes.set_xlim(*_limits(measure, *axes.get_xlim()))


def _limits(measure: str, low: float, high: float) -> tuple[float, float]:
    """Limits wide enough that nearly equal values look so, and that include perfect agreement."""
    if measure == "spearman_ranks":
        low = min(low, 0.9)
        room = 0.06 * (1 - low)
        return low - room, 1 + room
    high = max(high, 1.0)
    return -0.04 * high, high


def _left_title(some: pd.DataFrame) -> str:
    """What is compared, and the methods without an order of layers to compare."""
    tokens = set(some["tokens"]) | set(some["other_tokens"])
    at = f", {compact(tokens.pop())} calibration tokens" if len(tokens) == 1 else ""
    title = f"agreement of every two seeds{at}"
    ranked = some.groupby("method", sort=False)["spearman_ranks"].count()
    lost = ", ".join(str(method) for method in ranked.index[ranked == 0])
    return f"{title}\n(no correlation where all layers are equal: {lost})" if lost else title


def _right_title(chosen: dict[str, pd.DataFrame]) -> str:
    sizes = {tokens for group in chosen.values() for tokens in group["tokens"]}
    one = f", at {compact(sizes.pop())} calibration tokens" if len(sizes) == 1 else ""
    return f"each layer's keep share: mean as a line, range over the runs as a band{one}"


def _places(lanes: Sequence[Axes], runs: pd.DataFrame) -> dict[str, float]:
    """Position of each target on the lanes' axis; labels the projections below the last lane."""
    start = 0.0
    places: dict[str, float] = {}
    ticks: dict[str, float] = {}
    for projection, group in runs.drop_duplicates("target").groupby("projection", sort=False):
        places |= {target: start + index for index, target in enumerate(group["target"])}
        name = str(projection).replace("_proj", "").replace("+", "+\n")
        ticks[name] = start + (len(group) - 1) / 2
        gap = max(1.0, 0.08 * len(group))
        start += len(group) + gap
        for axes in lanes:
            axes.axvline(start - (1 + gap) / 2, color="0.85", linewidth=0.8)
    lanes[-1].set_xticks(list(ticks.values()), list(ticks))
    lanes[-1].set_ylim(0, 1.05)
    return places


def _lane(
    axes: Axes, runs: pd.DataFrame, places: dict[str, float], colour: str, marker: str
) -> None:
    """Keep share of each layer of one method: mean as a line, minimum to maximum as a band."""
    shape = marker if runs["target"].nunique() <= FEW_LAYERS else ""
    for _, group in runs.groupby("projection", sort=False):
        share = group.groupby("target", sort=False)["share"].agg(["mean", "min", "max"])
        at = [places[target] for target in share.index]
        axes.fill_between(at, share["min"], share["max"], color=colour, alpha=0.3, linewidth=0)
        axes.plot(at, share["mean"], color=colour, linewidth=1.1, marker=shape, markersize=3)
    axes.tick_params(axis="x", length=0)
    axes.margins(x=0.01)


def _most_tokens(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at the largest calibration that has several seeds; all if none has."""
    seeds = runs.groupby("tokens")["seed"].nunique()
    several = seeds.index[seeds > 1]
    return runs[runs["tokens"] == several.max()] if len(several) else runs


def _apart(tokens: list[int]) -> list[int]:
    """The token counts with room for a label on a logarithmic axis, the largest first."""
    kept: list[int] = []
    room = math.log(tokens[-1] / tokens[0]) / TICKS
    for count in reversed(tokens):
        if not kept or math.log(kept[-1] / count) >= room:
            kept.append(count)
    return kept


def compact(tokens: float) -> str:
    """A token count in three digits: ``512``, ``4.1k``, ``1.05M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g}{letter}"
    return f"{tokens:.0f}"
