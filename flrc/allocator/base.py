"""The interface of an allocator: evidence in, a rank for every target out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.core.component import Component
from flrc.form.base import Form
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target


@dataclass
class Allocator(Component, ABC):
    """Decides the rank of every target at a rate.

    Attributes:
        minimum_rank: Smallest rank of any target, except those whose output is always 0: they get
            none.
        samples: Calibration sequences that plans are measured on; None for all. Read by allocators
            that measure the model; the others accept it, so that a sweep over methods can set it
            once.
    """

    minimum_rank: int = 1
    samples: int | None = None

    SCORED: ClassVar[bool] = False
    """Whether :meth:`allocate` reads scores, so that a sensitivity must be chosen."""
    SPECTRAL: ClassVar[bool] = False
    """Whether :meth:`allocate` reads spectra."""
    ALLOCATES: ClassVar[bool] = True
    """False only for ``replay``, whose plan already has the ranks of dead targets."""
    PROBES: ClassVar[bool] = False
    """Whether :meth:`allocate` measures the model with truncated targets."""

    def check(self) -> None:
        """``minimum_rank`` and ``samples`` are at least 1."""
        self.require(self.minimum_rank >= 1, "minimum_rank", "an integer, 1 or more")
        enough = self.samples is None or self.samples >= 1
        self.require(enough, "samples", "1 or more, or null for all")

    def describe(self) -> dict[str, Any]:
        """All settings; ``samples`` only if it is read."""
        described = super().describe()
        if not type(self).PROBES:
            del described["samples"]
        return described

    def budget(
        self, targets: Sequence[Target], form: Form, rate: float, within: RankPlan | None = None
    ) -> Budget:
        """The number of parameters that the ranks may cost."""
        return Budget.of(targets, form, rate, minimum_rank=self.minimum_rank, within=within)

    def check_reachable(self, targets: Sequence[Target], form: Form, rate: float) -> None:
        """Raise UserError, from shapes only, if the rate cannot be met."""
        self.check_budget(self.budget(targets, form, rate))

    def check_budget(self, budget: Budget) -> None:
        """Raise UserError if no ranks that this allocator may choose meet the budget."""
        budget.check_reachable()

    def measurements(self) -> tuple[int, int]:
        """How often the model is measured: with each target truncated alone, and by whole plans.

        Counted before anything is known of the model; only of allocators with ``PROBES``.
        """
        return 0, 0

    @abstractmethod
    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks that meet the budget, which is one of :meth:`budget`."""


@dataclass
class ProbingAllocator(Allocator):
    """An allocator that measures the model with truncated targets."""

    PROBES: ClassVar[bool] = True
