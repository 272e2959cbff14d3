"""Layers that read the same input share one right factor (SkipCat's Cat)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flrc.grouping.base import Grouping
from flrc.plans.target import Target


@dataclass
class Shared(Grouping):
    """Stacks the weights of layers that share an input: q, k and v; gate and up.

    One SVD of the stacked weights gives one right factor for all of them, so rank ``r`` costs
    ``r (d_in + sum of d_out)`` parameters in total instead of ``r (d_in + d_out)`` per layer.

    Source: SkipCat (arXiv 2512.13494), section 3.1 (Cat).
    """

    name: str = "shared"

    def targets(self, layers: Sequence[Target]) -> list[Target]:
        """One target per input group."""
        groups: dict[str, list[Target]] = {}
        for layer in layers:
            groups.setdefault(layer.input_group, []).append(layer)
        return [Target.stacked(members) for members in groups.values()]
