"""The interface of a search for a schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import Component

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from flrc.allocator.planner import Planner
    from flrc.calibration.dense_model import DenseModel
    from flrc.core.cache import Entry
    from flrc.data.base import DataSource
    from flrc.data.token_sequences import TokenSequences
    from flrc.plans.phase import Phase
    from flrc.schedule.base import Schedule


@dataclass(frozen=True)
class Compression:
    """Everything that is decided before the schedule is.

    The model is dense again when the search ends. ``factors`` maps a target's name and a rank to
    ``(left_t, right)``; replies are kept in ``entry``.
    """

    dense: DenseModel
    tokenizer: PreTrainedTokenizerBase
    data: DataSource
    planner: Planner
    factors: Callable[[str, int], tuple[Tensor, Tensor]]
    entry: Entry


@dataclass(frozen=True)
class SearchResult:
    """The schedule that a search chose, and how.

    Attributes:
        phases: The best schedule.
        candidates: One row per candidate, best first: ``switch``, ``drop``, ``phases``, ``items``,
            ``score``, ``stderr``, ``rate`` (realised), ``tokens`` (mean reply), ``stored``,
            ``fate``.
        cost: ``trials``, ``replies`` and, for the record, the ``candidates``.
        seconds: Of generating: ``all``, and ``now`` in this process.
    """

    phases: list[Phase]
    candidates: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class ScheduleSearch(Component, ABC):
    """Chooses switch points and rates, in the direction that the schedule has."""

    SEARCHES: ClassVar[bool] = True
    """False only for ``none``: the schedule's own phases are used."""

    def check_data(self, data: DataSource) -> None:
        """Raise UserError if data that the search reads are missing."""

    def token_sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> TokenSequences:
        """Every token that the model will be fed; none unless overridden.

        Raises:
            UserError: If a row is bad, or there are too few.
        """
        from flrc.data.token_sequences import TokenSequences

        return TokenSequences("a prompt of the search", [], "search=none")

    def inputs(self, data: DataSource) -> dict[str, Any]:
        """Settings and the content of the data that is read, for ids and cache keys."""
        return self.describe()

    def generations(self, direction: int) -> list[int]:
        """Items that every trial of the search generates for, as if no trial failed.

        ``direction`` is that of the schedule.
        """
        return []

    @abstractmethod
    def search(self, schedule: Schedule, rate: float, compression: Compression) -> SearchResult:
        """The best schedule, in the direction of the given one, for an average rate over steps."""
