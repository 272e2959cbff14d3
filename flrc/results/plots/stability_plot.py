"""The plot of :mod:`flrc.results.plots.stability`: agreement of runs, and the range of ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from flrc.results.plots.axes import compact, even_ticks
from flrc.results.plots.methods import Look
from flrc.results.plots.names import Names, percent
from flrc.results.plots.style import GREY, SMALL, TEXT, finish, legend

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.3
ROW_HEIGHT = 3.5
"""Least height in inches for one model and rate."""
LANE_HEIGHT = 0.78
TICKS = 6
"""Token counts below an axis at most."""
FEW_LAYERS = 80
"""Up to this number of layers, each has a marker."""
MEASURES = {
    "spearman_ranks": "Spearman correlation",
    "mean_relative_difference": "mean difference (%)",
}


def draw(frame: pd.DataFrame, numbers: pd.DataFrame, names: Names | None = None) -> list[Figure]:
    """Draw one row of panels for each model and rate.

    Left: agreement of two runs against the calibration tokens, or if there is only one number of
    tokens, a line of points for each method with a pair. Right: mean and range of each layer's
    keep share, in a lane for each method.

    Args:
        frame: Layers of runs, see :func:`~.stability.layers`.
        numbers: Pairs of runs, see :func:`~.stability.pairs`.
        names: How plots call the runs.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = names or Names()
    first = frame.drop_duplicates("method").set_index("method")["run"]
    looks = names.looks({name: str(first[name]) for name in numbers["method"].unique()})
    cells = numbers.groupby(["model", "rate"], sort=False)
    height = max(ROW_HEIGHT, 1.0 + LANE_HEIGHT * len(looks))
    figure = Figure(figsize=(WIDTH, height * len(cells) + 0.2), layout="constrained")
    rows = figure.subfigures(len(cells), 1, squeeze=False)[:, 0]
    for row, ((model, rate), some) in zip(rows, cells, strict=True):
        row.suptitle(f"{names.model(str(model))}, rate {percent(float(str(rate)))}", fontsize=TEXT)
        left, right = row.subfigures(1, 2, width_ratios=[1, 1.9])
        shown = {name: looks[name] for name in looks if name in set(some["method"])}
        runs = frame[(frame["model"] == model) & (frame["rate"] == rate)]
        runs = runs[runs["method"].isin(shown)]
        several = len({*some["tokens"], *some["other_tokens"]}) > 1
        left.suptitle(_left_title(some, looks), fontsize=SMALL)
        agreement = left.subplots(2, 1)
        for axes, measure in zip(agreement, MEASURES, strict=True):
            (_against_tokens if several else _strips)(axes, some, measure, shown)
        lanes = right.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        chosen = {method: _most_tokens(runs[runs["method"] == method]) for method in shown}
        right.suptitle(_right_title(chosen), fontsize=SMALL)
        right.supylabel("parameters kept (%)", fontsize=SMALL)
        right.supxlabel("layers by projection, first block to last", fontsize=SMALL)
        places = _places(lanes, runs)
        for axes, (method, group) in zip(lanes, chosen.items(), strict=True):
            look = looks[method]
            axes.set_title(look.name, fontsize=SMALL, loc="left", pad=2, color=look.colour)
            _lane(axes, group, places, look)
        for axes in agreement:
            finish(axes)
        for axes in lanes:
            finish(axes, "y")
    entries: dict[str, Any] = {
        look.name: Line2D([], [], markersize=5, **look.options) for look in looks.values()
    }
    grey: dict[str, Any] = {"color": GREY, "linestyle": "none", "marker": "o", "markersize": 5}
    if numbers["spearman_scores"].notna().any():
        entries["keep shares (ranks)"] = Line2D([], [], **grey)
        entries["scores"] = Line2D([], [], markerfacecolor="white", **grey)
    if any(not _of_seeds(group) for _, group in numbers.groupby(["model", "rate", "method"])):
        entries["one seed: against its most tokens"] = Line2D([], [], color=GREY, linestyle="--")
    legend(figure, entries)
    return [figure]


Looks = dict[str, Look]
"""By method."""


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


def _against_tokens(axes: Axes, some: pd.DataFrame, measure: str, looks: Looks) -> None:
    for place, (method, look) in enumerate(looks.items()):
        hue, shape = look.colour, look.marker
        for points, seeds, hollow in _curves(some, measure, method):
            # Equal values stay visible.
            aside = 1.03 ** (2 * place - len(looks) + 1 + 0.6 * hollow)
            axes.plot(points["tokens"] * aside, points["value"], shape, color=hue, alpha=0.8,
                      markersize=3.5, markerfacecolor="white" if hollow else hue)  # fmt: skip
            mean = points.groupby("tokens")["value"].mean()
            line = "--" if not seeds else ":" if hollow else "-"
            axes.plot(mean.index * aside, mean, line, color=hue, linewidth=1.1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(_apart(sorted(set(some["tokens"]))), minor=False)
    axes.xaxis.set_major_formatter(lambda tokens, _: compact(tokens))
    axes.set_ylabel(MEASURES[measure], fontsize=SMALL)
    axes.margins(x=0.1, y=0.12)
    axes.set_ylim(*_limits(measure, *axes.get_ylim()))
    if measure == "spearman_ranks":
        axes.tick_params(labelbottom=False)
    else:
        axes.set_xlabel("calibration tokens", fontsize=SMALL)


def _strips(axes: Axes, some: pd.DataFrame, measure: str, looks: Looks) -> None:
    for place, (method, look) in enumerate(looks.items()):
        hue, shape = look.colour, look.marker
        for points, _, hollow in _curves(some, measure, method):
            height = [place + 0.22 * hollow - 0.11 * (measure == "spearman_ranks")] * len(points)
            axes.plot(points["value"], height, shape, color=hue, alpha=0.75, markersize=5,
                      markerfacecolor="white" if hollow else hue)  # fmt: skip
    axes.set_yticks(range(len(looks)), [look.name.replace(" · ", "\n") for look in looks.values()])
    axes.set_ylim(len(looks) - 0.5, -0.5)
    axes.set_xlabel(MEASURES[measure], fontsize=SMALL)
    axes.margins(x=0.08)
    axes.set_xlim(*_limits(measure, *axes.get_xlim()))
    even_ticks(axes, "x", 4)


def _limits(measure: str, low: float, high: float) -> tuple[float, float]:
    """Limits wide enough that nearly equal values look so, and that include perfect agreement."""
    if measure == "spearman_ranks":
        low = min(low, 0.9)
        room = 0.06 * (1 - low)
        return low - room, 1 + room
    high = max(high, 1.0)
    return -0.04 * high, high


def _left_title(some: pd.DataFrame, looks: Looks) -> str:
    """What is compared, and the methods without an order of layers to compare."""
    tokens = set(some["tokens"]) | set(some["other_tokens"])
    at = f",\n{compact(tokens.pop())} calibration tokens" if len(tokens) == 1 else ""
    title = f"agreement of every two seeds{at}"
    ranked = some.groupby("method", sort=False)["spearman_ranks"].count()
    lost = ", ".join(looks[str(method)].name for method in ranked.index[ranked == 0])
    return f"{title}\n(all layers equal, no correlation: {lost})" if lost else title


def _right_title(chosen: dict[str, pd.DataFrame]) -> str:
    sizes = {tokens for group in chosen.values() for tokens in group["tokens"]}
    one = f",\nat {compact(sizes.pop())} calibration tokens" if len(sizes) == 1 else ""
    return f"what each layer keeps: mean (line) and range over the runs (band){one}"


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
    lanes[-1].set_ylim(0, 1.08)
    lanes[-1].set_yticks([0, 0.5, 1], ["0", "50", "100"])
    return places


def _lane(axes: Axes, runs: pd.DataFrame, places: dict[str, float], look: Look) -> None:
    """Keep share of each layer of one method: mean as a line, minimum to maximum as a band."""
    shape = look.marker if runs["target"].nunique() <= FEW_LAYERS else ""
    for _, group in runs.groupby("projection", sort=False):
        share = group.groupby("target", sort=False)["share"].agg(["mean", "min", "max"])
        at = [places[target] for target in share.index]
        axes.fill_between(at, share["min"], share["max"], color=look.colour, alpha=0.3, linewidth=0)
        axes.plot(at, share["mean"], color=look.colour, linewidth=1.0, marker=shape, markersize=3)
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
