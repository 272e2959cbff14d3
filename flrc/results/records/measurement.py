"""One number, and what one part of an evaluation gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One number, with what is needed to read it.

    Attributes:
        name: ``<dataset>/<metric>``, the data set as :meth:`DataSource.label` calls it.
        value: The number; never missing, may be non-finite, and then says so in every table.
        unit: ``perplexity``, ``%``, ``tokens/s``, ``bytes`` ...
        higher_is_better: Direction.
        stderr: Standard error over the items, where it is defined.
        count: Number of items (windows, questions, dialogues) behind the value.
        settings: Everything that defines the number; two values may be compared only where it is
            equal.
        rate: Share of the target parameters that one forward step does not use, as realised when
            this was taken.
    """

    name: str
    value: float
    unit: str
    higher_is_better: bool
    stderr: float | None
    count: int
    settings: dict[str, Any]
    rate: float


@dataclass(frozen=True)
class Outcome:
    """What one part of an evaluation gives.

    Attributes:
        measurements: The numbers.
        items: One JSON object per item (id, scores, generated text): for paired tests and for
            reading.
    """

    measurements: list[Measurement]
    items: list[dict[str, Any]] = field(default_factory=list)
