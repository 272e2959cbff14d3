"""What the paper reports of a table (``expected.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.results.tables.facts import Facts
from flrc.results.tables.layout import malformed, read_yaml

EXPECTED = "expected.yaml"


@dataclass(frozen=True)
class Order:
    """A claim in machine form: the better side of a ``metric``, and the other, all else equal.

    Attributes:
        number: The other side's number if none of our rows has it: the dense model's speed-up is 1.
        alike: The claim is that the two do not differ.
    """

    metric: str
    above: Facts
    below: Facts
    number: float | None = None
    alike: bool = False


@dataclass(frozen=True)
class Expected:
    """What the paper reports, and where.

    Attributes:
        rows: Facts and values of each row, in the paper's order.
        claims: Its claims, in our words; ``small`` says what was found at small scale if no order
            decides.
        orders: The claims that are an order.
    """

    source: str
    place: str
    rows: list[tuple[Facts, dict[str, float]]]
    claims: list[dict[str, Any]]
    orders: list[Order]


def read_expected(folder: Path) -> Expected | None:
    """What the paper reports; None if the study is not the paper's.

    Raises:
        UserError: If the file exists and does not have the expected form.
    """
    values = read_yaml(folder / EXPECTED)
    if values is None:
        return None
    try:
        rows = [(dict(row["where"]), dict(row["values"])) for row in values.pop("rows")]
        orders = [Order(**order) for order in values.pop("orders")]
        return Expected(rows=rows, orders=orders, **values)
    except (KeyError, TypeError) as error:
        raise malformed(folder / EXPECTED, error) from error
