"""One measured number, and the result of one part of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flrc.core.jsonfile import digest


@dataclass(frozen=True)
class Measurement:
    """One number and what is needed to interpret it.

    Attributes:
        name: ``<dataset>/<metric>``, the data set as :meth:`DataSource.label` calls it.
        value: The number; may be NaN or infinite, which every table then shows.
        unit: ``perplexity``, ``%``, ``tokens/s``, ``bytes`` ...
        higher_is_better: Direction.
        stderr: Standard error over the items, if it is defined.
        count: Number of items (windows, questions, dialogues) behind the value.
        settings: Everything that defines the number; two values are comparable only if their
            settings are equal.
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

    @property
    def key(self) -> str:
        """The same for measurements of one name and equal settings; null is as good as absent."""
        return f"{self.name} {digest(_stated(self.settings))}"


@dataclass(frozen=True)
class Outcome:
    """The result of one part of an evaluation.

    Attributes:
        measurements: The numbers.
        items: One JSON object per item (id, scores, generated text): for paired tests and for
            reading.
    """

    measurements: list[Measurement]
    items: list[dict[str, Any]] = field(default_factory=list)


def _stated(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that are null."""
    return {
        key: _stated(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if value is not None
    }
