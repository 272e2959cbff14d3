"""Compare two methods over rates on the sample data, and plot perplexity.

    python examples/compare_methods.py                                # a tiny model, in a minute
    python examples/compare_methods.py --model smollm2_135m           # the default model

The tiny model has random weights: its numbers say nothing about the methods.
Runs are kept: a second call computes nothing, and more rates add to what is there. Needs the extra
``report`` for the plot.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

import flrc
from flrc.results.records.measurement import Measurement

SHORT = (
    "calibration.samples=2",
    "calibration.length=128",
    "calibration.dialogues=0",
    "evaluation=[perplexity]",
    "evaluation.perplexity.windows=2",
    "evaluation.perplexity.length=256",
    "evaluation.perplexity.datasets=[wikitext2]",
)
"""A short run; leave these out for the configuration's own sizes."""


def perplexity(method: str, rate: float, overrides: Sequence[str]) -> Measurement:
    """Perplexity of one run, with its standard error."""
    record = flrc.run(f"method={method}", f"rate={rate}", *overrides)
    (found,) = [m for m in record.measurements if m.name.endswith("/perplexity")]
    return found


def plot(
    measured: dict[str, list[Measurement]], dense: Measurement, rates: Sequence[float], file: Path
) -> None:
    """Perplexity over the rate, with error bars; the dense model is a dotted line."""
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    percent = [100 * rate for rate in rates]
    for (method, values), marker in zip(measured.items(), "os^D", strict=False):
        errors = [value.stderr or 0.0 for value in values]
        axes.errorbar(percent, [v.value for v in values], errors, marker=marker, label=method)
    axes.axhline(dense.value, linestyle=":", color="grey", label="dense")
    axes.set(xlabel="parameters removed (%)", ylabel=f"perplexity on {dense.name.split('/')[0]}")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Run what is missing, print a table and plot it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="random", help="a preset, a Hub id or a path")
    parser.add_argument("--methods", nargs=2, default=["svdllm", "kfac"])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.2, 0.3])
    parser.add_argument("--output", type=Path, default=Path("comparison.png"))
    arguments = parser.parse_args()

    overrides = [f"model={arguments.model}", "data=sample", *SHORT]
    dense = perplexity("dense", 0.0, overrides)
    print(f"{'dense':10} {dense.value:8.2f}")
    measured: dict[str, list[Measurement]] = {}
    for method in arguments.methods:
        values = [perplexity(method, rate, overrides) for rate in arguments.rates]
        measured[method] = values
        print(f"{method:10}", *(f"{v.value:8.2f} ± {v.stderr or 0:.2f}" for v in values))
    plot(measured, dense, arguments.rates, arguments.output)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
