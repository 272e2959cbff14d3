"""Switches a compressed model between its plans (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import nn

from flrc.models.layers.compressed_layers import low_rank_layers

if TYPE_CHECKING:
    from flrc.plans.rank_plan import RankPlan


def activate(model: nn.Module, plan: RankPlan) -> None:
    """Set every low-rank layer to its target's rank."""
    prepared(model, plan)()


def prepared(model: nn.Module, plan: RankPlan) -> Callable[[], None]:
    """A function that activates the plan in microseconds, until a layer is replaced.

    Raises:
        ValueError: If a layer cannot run at its rank.
    """
    states = []
    for name, layer in low_rank_layers(model).items():
        rank = plan.ranks[layer.target or name]
        layer.check(rank)
        states.append((vars(layer), rank))

    def switch() -> None:
        for state, rank in states:
            state["_rank"] = rank

    return switch


class Switch:
    """Forward pre-hook that activates the plan of each step; for one ``generate`` call."""

    def __init__(
        self,
        model: nn.Module,
        at: Mapping[int, RankPlan],
        on_switch: Callable[[int, RankPlan], None] | None,
    ) -> None:
        self.step = 0
        self.at = {step: (plan, prepared(model, plan)) for step, plan in at.items()}
        self.on_switch = on_switch

    def __call__(self, *_: object) -> None:
        """Called before each forward step."""
        if self.step in self.at:
            plan, switch = self.at[self.step]
            switch()
            if self.on_switch is not None:
                self.on_switch(self.step, plan)
        self.step += 1
