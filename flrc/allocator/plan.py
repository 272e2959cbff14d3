"""The answer of an allocator: a rank for every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flrc.form.base import Form
    from flrc.models.targets import Target


@dataclass(frozen=True)
class RankPlan:
    """Ranks per target at one rate; JSON, diffable, replayable.

    Attributes:
        requested: Rate that was asked for.
        realised: Rate that the ranks give: ``1 - activated / dense`` parameters of the targets.
        ranks: Rank by target name; None where the target stays dense.
        exact: Whether the ranks were solved for the requested rate. False only for the one-shot
            formula of the paper, which does not meet it.
    """

    requested: float
    realised: float
    ranks: dict[str, int | None]
    exact: bool = True

    @classmethod
    def of(
        cls,
        requested: float,
        ranks: dict[str, int | None],
        targets: Sequence[Target],
        form: Form,
        exact: bool = True,
    ) -> RankPlan:
        """A plan with its realised rate computed from the ranks."""
        dense = sum(target.dense for target in targets)
        used = sum(plan_cost(target, ranks[target.name], form) for target in targets)
        return cls(requested, 1 - used / dense, ranks, exact)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "requested": self.requested,
            "realised": self.realised,
            "exact": self.exact,
            "ranks": self.ranks,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RankPlan:
        """Read :meth:`to_json` back."""
        return cls(values["requested"], values["realised"], values["ranks"], values["exact"])


def plan_cost(target: Target, rank: int | None, form: Form) -> int:
    """Parameters of a target that a forward step reads under a plan."""
    return target.dense if rank is None else form.cost(rank, target)
