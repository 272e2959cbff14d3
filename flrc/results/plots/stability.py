"""How ranks and scores vary with the seed and with the number of calibration tokens."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flrc.core.commands import as_called
from flrc.core.component import discover
from flrc.errors import UserError, choose
from flrc.form.base import Form
from flrc.results.plots.formats import ALL_PICTURES
from flrc.results.plots.names import Names
from flrc.results.records.distinct_models import distinct_models
from flrc.results.records.record import Record
from flrc.results.records.run_key import key_of
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.labels import Presets, label_rows

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

CELL = ["model", "rate", "method"]
"""Runs that share these differ only in the seed and in the calibration's size."""
SIZE = ("samples", "length")
"""Keys of a calibration that determine how many tokens it reads."""
LAYER = ("target", "projection", "share", "score")


def keep_shares(record: Record, phase: int | None = None) -> list[float]:
    """Share of each layer's dense parameters that a step reads; 1 for a layer kept dense.

    ``phase`` counts the phases of its schedule from 0; None means the ranks of the constant plan.

    Raises:
        UserError: If this version does not know the record's form.
    """
    from flrc.plans.target import Target

    forms = discover("flrc.form", Form)
    name = choose("form", str(record.run["components"].get("form")), forms)
    form = cast("Form", forms[name](**record.run["config"]["form"]))
    shares = []
    for layer in record.results["layers"]:
        (d_out, d_in), target = layer["shape"], layer["target"]
        sized = Target(target, d_out, d_in, layer["block"], layer["projection"], target)
        rank = layer["rank"] if phase is None else layer["phase_ranks"][phase]
        shares.append(1.0 if rank is None else form.cost(rank, sized) / (d_out * d_in))
    return shares


def layers(records: Iterable[Record], presets: Presets | None = None) -> pd.DataFrame:
    """One row for each layer of each finished compressed run with ranks.

    Returns:
        Columns ``model``, ``rate`` (requested), ``method`` (label), ``run`` (id), ``seed``,
        ``samples``, ``length``, ``tokens`` (``samples * length``), ``target``, ``projection``,
        ``share`` (see :func:`keep_shares`), ``score`` (NaN if the allocator reads none).
    """
    import pandas as pd

    given = {key_of(r): r for r in records if r.run["status"] == "ok"}
    chosen = [
        r
        for r in distinct_models(given.values())
        if r.run["method"] != "dense" and r.results.get("layers")
    ]
    labels = label_rows([_without_size(record) for record in chosen], presets or {})
    rows: list[dict[str, Any]] = []
    for record, label in zip(chosen, labels, strict=True):
        samples, length = _size(record)
        run = {
            "model": model_name(record),
            "rate": requested_rate(record),
            "method": label,
            "run": str(record.run["id"]),
            "seed": int(record.run["seed"]),
            "samples": samples,
            "length": length,
            "tokens": samples * length,
        }
        for layer, share in zip(record.results["layers"], keep_shares(record), strict=True):
            rows.append({"score": None, **layer, **run, "share": share})
    frame = pd.DataFrame(rows, columns=[*CELL, "run", "seed", *SIZE, "tokens", *LAYER])
    return frame.astype({"score": float})


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Pairs of runs: two seeds at one calibration size, or a size and the largest at one seed.

    Returns:
        Columns ``model``, ``rate``, ``method``, ``tokens``, ``other_tokens`` (equal but for pairs
        of sizes), ``seed``, ``other_seed`` (equal for pairs of sizes), ``spearman_ranks`` (of the
        keep shares), ``spearman_scores`` (both NaN if all layers are equal or there are no
        scores), ``mean_relative_difference`` (over the layers, ``2 |a - b| / (a + b)``).

    Raises:
        UserError: If there is no such pair.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for cell, group in frame.groupby(CELL, sort=False):
        runs = dict(list(group.groupby(["tokens", *SIZE, "seed"])))  # sorted by these keys
        largest = max((key[:3] for key in runs), default=None)
        before = len(rows)
        for (one, first), (other, second) in itertools.combinations(runs.items(), 2):
            if one[:3] != other[:3] and (one[3] != other[3] or other[:3] != largest):
                continue
            a = first.set_index("target")
            b = second.set_index("target").loc[a.index]
            rows.append(
                {
                    **dict(zip(CELL, cell, strict=True)),
                    "tokens": one[0],
                    "other_tokens": other[0],
                    "seed": one[3],
                    "other_seed": other[3],
                    "spearman_ranks": _spearman(a["share"], b["share"]),
                    "spearman_scores": _spearman(a["score"], b["score"]),
                    "mean_relative_difference": _difference(a["share"], b["share"]),
                }
            )
        if len(rows) == before:
            log.warning(
                "%s at rate %g on %s has no run to compare it with", cell[2], cell[1], cell[0]
            )
    if not rows:
        runs_of = Counter(
            frame.drop_duplicates([*CELL, "seed", *SIZE])[CELL].itertuples(index=False)
        )
        raise UserError(
            "no two runs of a method differ only in the seed or in the calibration's size",
            given="; ".join(
                f"{method} at rate {rate:g} on {model}: {count}"
                for (model, rate, method), count in runs_of.items()
            )
            or "no finished run with ranks",
            allowed="two or more finished runs of one method, model and rate",
            fix=f"{as_called()} -m method=flra seed=0,1,2 calibration.samples=8,16,32",
        )
    return pd.DataFrame(rows)


def write_stability(
    records: Sequence[Record], path: Path, presets: Presets | None = None
) -> tuple[Path, Path]:
    """Draw the plot, and write its numbers (:func:`pairs`) as CSV beside it.

    Raises:
        UserError: If the ending of ``path`` is no format of plots, or there is nothing to compare.
    """
    from flrc.results.plots.stability_plot import draw
    from flrc.results.plots.style import save

    if (ending := path.suffix.removeprefix(".")) not in ALL_PICTURES:
        raise UserError(
            "a plot is a PNG, PDF or SVG file", given=path, fix=str(path.with_suffix(".png"))
        )
    frame = layers(records, presets)
    numbers = pairs(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers.to_csv(path.with_suffix(".csv"), index=False, lineterminator="\n")
    (picture,) = save(draw(frame, numbers, Names(presets or {})), path, [ending])
    return picture, path.with_suffix(".csv")


def _size(record: Record) -> tuple[int, int]:
    calibration = record.run["config"]["calibration"]
    return int(calibration["samples"]), int(calibration["length"])


def _without_size(record: Record) -> Record:
    """A copy for labels, in which the calibration's size is part of the seed."""
    config = dict(record.run["config"])
    config["calibration"] = {k: v for k, v in config["calibration"].items() if k not in SIZE}
    seed = (record.run["seed"], *_size(record))
    return replace(record, run=record.run | {"config": config, "seed": seed})


def _difference(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Mean of ``2 |a - b| / (a + b)``; two zeros do not differ."""
    return float((2 * (a - b).abs() / (a + b)).fillna(0.0).mean())


def _spearman(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Correlation of ranks, ties at their mean rank; NaN if all values of a side are equal."""
    if a.isna().any() or b.isna().any() or a.nunique() < 2 or b.nunique() < 2:
        return float("nan")
    return float(a.rank().corr(b.rank()))
