"""Dead targets: layers of whose output or score nothing is known, and the ranks they get."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flrc.decomposition.factors import DENSE, ZERO
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target

Ranks = dict[str, int | None]


def dead_targets(scores: Mapping[str, float], kept: Mapping[str, str]) -> dict[str, str]:
    """Those of the decomposition, and those whose score is 0 or not finite: these stay dense.

    A score is 0 if no gradient of the calibration loss reaches a layer, and infinite if one
    overflowed. What the layer's ranks are worth is then unknown, and in proportion to 0 it would
    lose all but the last of them. Everything is by target name, ``kept`` as ``zero`` or ``dense``.
    """
    silent = (name for name, score in scores.items() if score == 0 or not math.isfinite(score))
    return dict.fromkeys(silent, DENSE) | dict(kept)


def dead_ranks(
    targets: Sequence[Target], kept: Mapping[str, str], spare: int, within: RankPlan | None = None
) -> Ranks:
    """Ranks of the dead targets: 0 if the output is 0, None (dense) otherwise.

    Rank 0 must not save more than is asked for, or the rate would be missed: in model order, as
    many targets get rank 0 as ``spare`` allows, and the later ones stay dense. So a higher rate
    never gives one of them a higher rank than a lower one, and the phases of a schedule nest.

    ``spare`` are the parameters that may still be removed if every dead target is dense and the
    others keep as much as they can use; ``within`` is a plan at a lower rate to nest in.
    """
    ranks: Ranks = {}
    for target in targets:
        how = kept.get(target.name)
        if how is None:
            continue
        spare -= target.dense if how == ZERO else 0
        before = None if within is None else within.ranks[target.name]
        ranks[target.name] = 0 if how == ZERO and (spare >= 0 or before == 0) else None
    return ranks
