"""Puts planned low-rank layers into a model, and switches between plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from flrc.allocator.plan import plan_cost
from flrc.models.lowrank import low_rank_layers, replace, target_parameters

if TYPE_CHECKING:
    from flrc.allocator.plan import RankPlan
    from flrc.allocator.planning import Plans
    from flrc.form.base import Form
    from flrc.models.targets import Target


def compress(
    model: nn.Module,
    targets: Sequence[Target],
    plans: Sequence[RankPlan],
    form: Form,
    factors: Callable[[str, int], tuple[Tensor, Tensor]],
) -> None:
    """Replace each target that some plan factors; its dense weight is freed before the next.

    A layer holds the most ranks that any plan asks for, and its dense weight only if some plan
    keeps it dense.

    Args:
        model: Changed in place.
        targets: The layers.
        plans: Every plan that will be activated.
        form: How factors are stored.
        factors: ``(target name, rank) -> (left_t, right)``.
    """
    for target in targets:
        ranks = [plan.ranks[target.name] for plan in plans]
        factored = [rank for rank in ranks if rank is not None]
        if not factored:
            continue
        linear = model.get_submodule(target.name)
        assert isinstance(linear, nn.Linear)
        weight, bias = linear.weight.data, None if linear.bias is None else linear.bias.data
        left_t, right = (f.to(weight) for f in factors(target.name, max(factored)))
        layer = form.build(left_t, right, bias, weight if None in ranks else None)
        replace(model, target.name, layer.train(linear.training))


def activate(model: nn.Module, plan: RankPlan) -> None:
    """Set every low-rank layer to the plan's rank: changes views, copies nothing."""
    for name, layer in low_rank_layers(model).items():
        layer.rank = plan.ranks[name]


def stored_parameters(targets: Sequence[Target], plans: Sequence[RankPlan], form: Form) -> int:
    """Parameters that must be stored to run all of these plans (arithmetic, not measured)."""
    total = 0
    for target in targets:
        ranks = [plan.ranks[target.name] for plan in plans]
        factored = [rank for rank in ranks if rank is not None]
        total += form.cost(max(factored), target) if factored else 0
        total += target.dense if None in ranks else 0
    return total


def check_counts(model: nn.Module, targets: Sequence[Target], plans: Plans, form: Form) -> None:
    """Measured on the modules, activated and stored parameters equal the planned ones.

    Raises:
        AssertionError: If they do not; a record would then be wrong.
    """
    names = [target.name for target in targets]
    dense = sum(target.dense for target in targets)
    for plan in plans.all:
        activate(model, plan)
        active, stored = target_parameters(model, names)
        planned = sum(plan_cost(target, plan.ranks[target.name], form) for target in targets)
        if active != planned or abs(1 - active / dense - plan.realised) > 1e-12:
            raise AssertionError(f"{active} parameters are active, {planned} were planned")
        needed = stored_parameters(targets, plans.all, form)
        if stored != needed:
            raise AssertionError(f"{stored} parameters are stored, {needed} were planned")
    activate(model, plans.constant)
