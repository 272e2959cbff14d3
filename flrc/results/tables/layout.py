"""A study's table: how it is laid out (``table.yaml``), what the paper has (``expected.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.results.tables.facts import Facts

TABLE = "table.yaml"
EXPECTED = "expected.yaml"
BASELINE = "Baseline"
LAYER = frozenset({"block", "projection"})
"""Facts of a layer."""


@dataclass(frozen=True)
class Layout:
    """A table.

    Attributes:
        caption: What it shows.
        place: Where it stands in the paper.
        rows: Facts of the label columns, outermost first.
        columns: Measurement name -> printed title, in order.
        group: Fact that heads groups of columns; empty for none.
        labels: Fact -> value -> printed name; its order is the order of rows and groups.
        read_as: Fact -> our value -> the paper's value that it stands for, where a row of the paper
            is computed under another name (FLRC's constant plan is ``flra``); under ``measurement``
            the same for the part of a measurement's name before the metric.
        plots: What is drawn, by the names of ``flrc/results/studies/plots.py``.
    """

    caption: str
    place: str
    rows: list[str]
    columns: dict[str, str]
    group: str = ""
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    read_as: dict[str, dict[str, str]] = field(default_factory=dict)
    plots: list[str] = field(default_factory=lambda: ["quality"])

    @property
    def of_layers(self) -> bool:
        """Whether a cell is a layer of the model, not a run."""
        return LAYER.issubset([*self.rows, self.group])

    def read(self, facts: Facts) -> Facts:
        """The facts in the paper's words."""
        return {fact: self.read_as.get(fact, {}).get(value, value) for fact, value in facts.items()}

    def read_name(self, measurement: str) -> str:
        """A measurement's name in the table's words."""
        dataset, slash, metric = measurement.rpartition("/")
        return self.read_as.get("measurement", {}).get(dataset, dataset) + slash + metric

    def label(self, fact: str, value: Any) -> str:
        """The printed name of a fact's value; a dense run, which has few facts, is the baseline."""
        if value is None:
            return BASELINE
        if fact == "rate":
            return f"{100 * value:g} %" if value else "-"
        return self.labels.get(fact, {}).get(value, str(value))

    def position(self, fact: str, value: Any) -> tuple[int, Any]:
        """Where a value stands among those of its fact."""
        names = list(self.labels.get(fact, {}))
        if value is None:
            return (-1, "")
        if value in names:
            return (names.index(value), "")
        return (len(names), value if isinstance(value, int | float) else str(value))


@dataclass(frozen=True)
class Order:
    """A claim in machine form: ``above`` has the better ``metric``, all other facts equal.

    Attributes:
        metric: What both measure.
        above: The facts of the better side.
        below: Those of the other.
        number: The other side's number where it is no row of ours: the dense model's speed-up is 1.
        alike: The claim is that the two do not differ.
    """

    metric: str
    above: Facts
    below: Facts
    number: float | None = None
    alike: bool = False


@dataclass(frozen=True)
class Expected:
    """What the paper reports.

    Attributes:
        source: The paper.
        place: Where in it.
        rows: Facts and values of each row, in the paper's order.
        claims: Its statements, in our words; ``small`` is what was found at small scale where no
            order decides.
        orders: Those of them that are an order.
    """

    source: str
    place: str
    rows: list[tuple[Facts, dict[str, float]]]
    claims: list[dict[str, Any]]
    orders: list[Order]


def read_layout(folder: Path) -> Layout | None:
    """The layout of a study; None if the folder is not a study's.

    Raises:
        UserError: If the file is there and does not have the known form.
    """
    values = _read(folder / TABLE)
    if values is None:
        return None
    try:
        columns = {column["name"]: column["title"] for column in values.pop("columns")}
        return Layout(columns=columns, **values)
    except (KeyError, TypeError) as error:
        raise _malformed(folder / TABLE, error) from error


def read_expected(folder: Path) -> Expected | None:
    """The paper's numbers; None where the study is not the paper's.

    Raises:
        UserError: If the file is there and does not have the known form.
    """
    values = _read(folder / EXPECTED)
    if values is None:
        return None
    try:
        rows = [(dict(row["where"]), dict(row["values"])) for row in values.pop("rows")]
        orders = [Order(**order) for order in values.pop("orders")]
        return Expected(rows=rows, orders=orders, **values)
    except (KeyError, TypeError) as error:
        raise _malformed(folder / EXPECTED, error) from error


def _read(path: Path) -> dict[str, Any] | None:
    import yaml

    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise _malformed(path, error) from error
    if not isinstance(values, Mapping):
        raise _malformed(path, TypeError("not a mapping"))
    return dict(values)


def _malformed(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path.name} does not have the form of a study's",
        given=f"{path}: {error}",
        allowed="see the table.yaml and expected.yaml beside it",
    )
