"""SVD-LLM V2: within each projection type, ratios by the loss that truncation would cause."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.allocator.keep_ratios import capped_softmax, real_ranks, solve_keep_ratios
from flrc.plans.rank_plan import RankPlan


@dataclass
class TypeLoss(Allocator):
    """``R_w = G R s_w / sum s`` over the ``G`` targets of a type, with ``s = 1 / log(e + L)``.

    ``R_w`` is the share of its parameters that a target loses; ``L`` is the truncation loss at the
    uniform rank, ``sqrt(sum of sigma_i^2 beyond it)``: a target that would lose much is compressed
    less. A target's type is its projection (``q_proj`` ...; the joined names for a group), across
    all blocks. ``R_w`` is capped at 1, with the excess redistributed within the type in proportion;
    then one common factor on all keep ratios meets the rate exactly.

    Source: SVD-LLM V2 (arXiv 2503.12340), algorithm 1.
    Differs: the paper's score is ``1 / log(L)``, which is undefined at ``L = 1`` and negative below
        it; an offset inside the logarithm keeps it in (0, 1] and decreasing. ``L`` is in the
        spectrum's own scale, a root mean square over tokens where the decomposition's Gram is a
        mean over tokens; the paper sums over the calibration tokens. Its pseudocode uses several
        names for one loss; as its text says, each matrix has its own.

    Attributes:
        offset: Added to ``L`` inside the logarithm, above 1; with e, a target that loses nothing
            scores 1.
    """

    name: str = "type_loss"
    offset: float = math.e

    SPECTRAL: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the offset."""
        super().check()
        allowed = "a number above 1, so that the logarithm is above 0"
        self.require(self.offset > 1, "offset", allowed)

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks whose removed shares ``R_w`` follow the scores within each type."""
        uniform = real_ranks(budget, [1 - budget.rate] * len(budget.targets))
        losses = [
            float(evidence.spectrum(target.name)[int(rank) :].double().square().sum()) ** 0.5
            for target, rank in zip(budget.targets, uniform, strict=True)
        ]
        keep = [0.0] * len(losses)
        types: dict[str, list[int]] = {}
        for i, target in enumerate(budget.targets):
            types.setdefault(target.projection, []).append(i)
        for members in types.values():
            # exp of these logits is the score 1 / log(offset + L)
            logits = [-math.log(math.log(self.offset + losses[i])) for i in members]
            removed = capped_softmax(logits, budget.rate, 1.0)
            for i, share in zip(members, removed, strict=True):
                keep[i] = 1 - share
        return solve_keep_ratios(budget, keep)
