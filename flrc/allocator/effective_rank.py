"""D-Rank: ranks by how evenly a target's energy is spread over its singular values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget, solve

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.allocator.evidence import Evidence
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass
class EffectiveRank(Allocator):
    """``k`` in proportion to ``sqrt(R_eff / omega)``; then part of Q's and K's ranks moves to V.

    ``R_eff = exp(-sum p log p)`` with ``p = sigma^2 / sum sigma^2``; ``omega`` is the number of
    parameters that one rank costs (``d_in + d_out`` for two factors; the form's cost of the first
    rank).

    The transfer acts on the proportions, block by block and before the budget solver; one common
    factor on the transferred ranks then meets the rate. What V cannot take (from break-even on it
    is dense) flows to all targets. As published, ranks are moved one for one, whatever they cost.
    Where q, k and v are one target, nothing is moved.

    Source: D-Rank (arXiv 2509.25622).
    Differs: the published budget is met before the transfer only; here after it too, which matters
        where a rank of V and one of Q differ in cost (grouped-query attention).

    Attributes:
        transfer: Share of the ranks of q and k that moves to v of the same block (beta); 0 for
            none.
    """

    name: str = "effective_rank"
    transfer: float = 0.3

    SPECTRAL: ClassVar[bool] = True

    def check(self) -> None:
        """Also checks the transfer."""
        super().check()
        self.require(0 <= self.transfer < 1, "transfer", "a share in [0, 1)")

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks in proportion to ``sqrt(R_eff / omega)``, after the transfer."""
        ranks = [
            (effective_rank(evidence.spectrum(t.name)) / budget.form.cost(1, t)) ** 0.5
            for t in budget.targets
        ]
        ranks = transferred(budget.targets, ranks, self.transfer)
        return solve(budget, lambda scale: [scale * rank for rank in ranks])


def effective_rank(spectrum: Tensor) -> float:
    """``exp(entropy of sigma^2 / sum sigma^2)`` of singular values ``(r,)``, between 1 and ``r``.

    A zero weight has the smallest possible effective rank, 1.

    Source: O. Roy, M. Vetterli, "The effective rank" (EUSIPCO 2007), on squared singular values as
        D-Rank has it.
    """
    energy = spectrum.double().square()
    share = energy[energy > 0] / energy.sum()
    return float((-(share * share.log()).sum()).exp())


def transferred(targets: Sequence[Target], ranks: Sequence[float], share: float) -> list[float]:
    """The ranks after ``share`` of q's and k's has moved to v, in every block that has a v."""
    moved = list(ranks)
    values = {t.block: i for i, t in enumerate(targets) if t.projection == "v_proj"}
    for i, target in enumerate(targets):
        if target.projection in ("q_proj", "k_proj") and target.block in values:
            moved[i] -= share * ranks[i]
            moved[values[target.block]] += share * ranks[i]
    return moved
