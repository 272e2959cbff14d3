"""A rank for every target: the result of an allocator (part of ``modeling_flrc.py``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flrc.plans.target import Target


class Costed(Protocol):
    """Anything that knows how many parameters a rank costs: :class:`flrc.form.base.Form`."""

    def cost(self, rank: int, target: Target) -> int:
        """Parameters that a forward step reads at ``rank``."""


@dataclass(frozen=True)
class RankPlan:
    """Ranks of all targets at one rate.

    Attributes:
        requested: The requested rate.
        realised: The rate of these ranks: ``1 - activated / dense`` parameters of the targets.
        ranks: Rank by target name; None if the target stays dense, 0 if its output is zero.
        exact: Whether the ranks were solved for the requested rate. False only for the paper's
            one-shot formula, which misses it.
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
        form: Costed,
        exact: bool = True,
    ) -> RankPlan:
        """A plan with its realised rate computed from the ranks."""
        dense = sum(target.dense for target in targets)
        used = sum(plan_cost(target, ranks[target.name], form) for target in targets)
        return cls(requested, 1 - used / dense, ranks, exact)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {key: getattr(self, key) for key in ("requested", "realised", "exact", "ranks")}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RankPlan:
        """Read :meth:`to_json` back.

        Raises:
            KeyError, TypeError, ValueError: If the values are not those of a plan.
        """
        ranks = values["ranks"]
        if not isinstance(ranks, dict):
            raise TypeError(f"the ranks are a {type(ranks).__name__}, not an object")
        for name, rank in ranks.items():
            if rank is not None and not (type(rank) is int and rank >= 0):
                raise ValueError(f"impossible rank for {name}: {rank!r}")
        realised, exact = values["realised"], values["exact"]
        if type(realised) not in (int, float) or not (math.isfinite(realised) and realised < 1):
            raise ValueError(f"impossible realised rate: {realised!r}")
        if type(exact) is not bool:
            raise ValueError(f"exact is {exact!r}")
        return cls(checked_rate(values["requested"]), realised, ranks, exact)


def checked_rate(value: Any) -> float:
    """A JSON value as a rate; ValueError if it is not a number in [0, 1)."""
    if type(value) not in (int, float) or not 0 <= value < 1:
        raise ValueError(f"{value!r} is not a rate in [0, 1)")
    rate: float = value
    return rate


def plan_cost(target: Target, rank: int | None, form: Costed) -> int:
    """Parameters of a target that a forward step reads under a plan."""
    return target.dense if rank is None else form.cost(rank, target)
