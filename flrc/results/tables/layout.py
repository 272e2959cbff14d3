"""How a table is laid out: the default for any runs, or a study's ``table.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.results.tables.facts import Facts

TABLE = "table.yaml"
BASELINE = "Baseline"
LAYER = frozenset({"block", "projection"})
"""Facts that identify a layer."""


@dataclass(frozen=True)
class Layout:
    """The layout of a table.

    Attributes:
        caption: What the table shows.
        place: Where the paper has it.
        rows: Facts that distinguish the rows, outermost first.
        columns: Measurement name -> printed title, in order.
        group: Fact that heads groups of columns; empty for none.
        labels: Fact -> value -> printed name; its order is the order of rows and groups.
        read_as: Fact -> our value -> the paper's value that it stands for, where a row of the paper
            is computed under another name (FLRC's constant plan is ``flra``); under ``measurement``
            the same for the part of a measurement's name before the metric.
        plots: What is drawn, by the names of ``flrc/results/plots/figures.py``.
        headings: The label columns, if they are not the rows: facts, and ``n`` for the number of
            runs.
        item_errors: Whether a single run shows its standard error over the items, and several seeds
            their deviation where it is zero.
    """

    caption: str
    place: str
    rows: list[str]
    columns: dict[str, str]
    group: str = ""
    labels: dict[str, dict[Any, str]] = field(default_factory=dict)
    read_as: dict[str, dict[str, str]] = field(default_factory=dict)
    plots: list[str] = field(default_factory=lambda: ["quality"])
    headings: list[str] = field(default_factory=list)
    item_errors: bool = True

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
        printed = self.labels.get(fact, {})
        if fact == "rate" and value not in printed:
            return f"{100 * value:g} %" if value else "-"
        return printed.get(value, str(value))

    def position(self, fact: str, value: Any) -> tuple[int, Any]:
        """Sorting key of a value among those of its fact."""
        names = list(self.labels.get(fact, {}))
        if value is None:
            return (-1, "")
        if value in names:
            return (names.index(value), "")
        return (len(names), value if isinstance(value, int | float) else str(value))


def read_layout(folder: Path) -> Layout | None:
    """The layout of a study; None if the folder has no ``table.yaml``.

    Raises:
        UserError: If the file does not have the expected form.
    """
    values = read_yaml(folder / TABLE)
    if values is None:
        return None
    try:
        columns = {column["name"]: column["title"] for column in values.pop("columns")}
        return Layout(columns=columns, **values)
    except (KeyError, TypeError) as error:
        raise malformed(folder / TABLE, error) from error


def read_yaml(path: Path) -> dict[str, Any] | None:
    """The mapping in a file; None if there is no such file.

    Raises:
        UserError: If it is not YAML, or not a mapping.
    """
    import yaml

    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise malformed(path, error) from error
    if not isinstance(values, Mapping):
        raise malformed(path, TypeError("not a mapping"))
    return dict(values)


def malformed(path: Path, error: Exception) -> UserError:
    """What to raise for a file of a study that does not have the expected form."""
    return UserError(
        f"{path.name} does not have the expected form",
        given=f"{path}: {error}",
        allowed="see the table.yaml and expected.yaml beside it",
    )
