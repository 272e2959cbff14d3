"""D-Rank: ranks by how evenly a target's energy is spread over its singular values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.allocator.base import Allocator

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.target import Target


@dataclass
class EffectiveRank(Allocator):
    """``k`` in proportion to ``sqrt(R_eff / omega)``, then a share of Q's and K's ranks goes to V.

    ``R_eff = exp(-sum p log p)`` with ``p = sigma^2 / sum sigma^2``; ``omega`` is the parameters
    that one rank costs (``d_in + d_out`` for two factors; the form's cost of the first rank).

    The transfer comes before the budget solver: it acts, block by block, on the ranks in
    proportion, and one factor on all transferred ranks then meets the rate. What V cannot take
    (it is dense from break-even on) so flows to all targets. Ranks are counted, not parameters, as
    published. A target whose q, k and v are joined has one rank; nothing is moved there.

    Source: D-Rank (arXiv 2509.25622).
    Differs: the published budget is met once, before the transfer; here after it too, which matters
        where a rank of V costs something else than one of Q (grouped-query attention).

    Attributes:
        transfer: Share of the ranks of q and k that moves to v of the same block (beta); 0 for
            none.
    """

    name: str = "effective_rank"
    transfer: float = 0.3

    SPECTRAL: ClassVar[bool] = True

    def check(self) -> None:
        """Range of the transfer."""
        super().check()
        self.require(0 <= self.transfer < 1, "transfer", "a share in [0, 1)")

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """Ranks in proportion to the root of effective rank over cost."""
        from flrc.allocator.budget import solve

        ranks = [
            (effective_rank(evidence.spectrum(t.name)) / budget.form.cost(1, t)) ** 0.5
            for t in budget.targets
        ]
        ranks = transferred(budget.targets, ranks, self.transfer)
        return solve(budget, lambda scale: [scale * rank for rank in ranks])


def effective_rank(spectrum: Tensor) -> float:
    """``exp(entropy of sigma^2 / sum sigma^2)`` of singular values ``(r,)``, between 1 and ``r``.

    A weight without any energy has the least there can be, 1.

    Source: O. Roy, M. Vetterli, "The effective rank" (EUSIPCO 2007), on squared singular values as
        D-Rank has it.
    """
    energy = spectrum.double().square()
    share = energy[energy > 0] / energy.sum()
    return float((-(share * share.log()).sum()).exp())


def transferred(targets: Sequence[Target], ranks: Sequence[float], share: float) -> list[float]:
    """Ranks after ``share`` of those of q and k has gone to v, in every block that has a v."""
    found = list(ranks)
    values = {t.block: i for i, t in enumerate(targets) if t.projection == "v_proj"}
    for i, target in enumerate(targets):
        if target.projection in ("q_proj", "k_proj") and target.block in values:
            found[i] -= share * ranks[i]
            found[values[target.block]] += share * ranks[i]
    return found
