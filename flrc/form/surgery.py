"""Puts planned low-rank layers into a model, and checks what they store and activate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from flrc.errors import UserError
from flrc.form.base import Form
from flrc.models.anatomy.finite_weights import finite
from flrc.models.layers.compressed_layers import replace
from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.separate_linear import SeparateLinear
from flrc.models.layers.sizes import target_parameters
from flrc.models.layers.switching import activate
from flrc.plans.rank_plan import RankPlan, plan_cost
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target


def compress(
    model: nn.Module,
    targets: Sequence[Target],
    plans: Sequence[RankPlan],
    form: Form,
    factors: Callable[[str, int], tuple[Tensor, Tensor]],
) -> None:
    """Replace each target that some plan factors; frees its dense weight before the next one.

    A layer stores the largest rank of any plan or, in a form that is not nested, one layer per
    rank; it keeps its dense weight only if some plan keeps it dense. The layers of a group share
    the factor on the input side. ``plans`` are all that will be activated; ``factors`` maps a
    target's name and a rank to ``(left_t, right)``.

    Raises:
        UserError: If factors overflow the model's dtype.
    """
    for target in targets:
        ranks = [plan.ranks[target.name] for plan in plans]
        factored = [rank for rank in ranks if rank is not None]
        if not factored:
            continue
        linears = [_linear(model, layer.name) for layer in target.layers]
        device = linears[0].weight.device
        # Not rounded yet: a form may change the basis first.
        left_t, right = (f.to(device) for f in factors(target.name, max(factored)))
        if form.NESTED or len(set(factored)) == 1:
            built = form.build(left_t, right, linears, None in ranks)
        else:
            built = _one_per_rank(form, left_t, right, linears, ranks)
        for part, linear, layer in zip(target.layers, linears, built, strict=True):
            assert isinstance(layer, FactoredLinear)
            if not all(finite(parameter.data) for parameter in layer.parameters()):
                raise UserError(
                    f"the factors of {part.name} overflow {linear.weight.dtype}",
                    given=f"rank {max(factored)} of {target.name}",
                    fix="dtype=float32 or dtype=bfloat16",
                )
            layer.target = target.name
            replace(model, part.name, layer.train(linear.training))


def _one_per_rank(
    form: Form,
    left_t: Tensor,
    right: Tensor,
    linears: Sequence[nn.Linear],
    ranks: Sequence[int | None],
) -> list[nn.Module]:
    """Layers for several ranks, of a form that is not nested."""
    layers: list[dict[int, FactoredLinear]] = [{} for _ in linears]
    for rank in sorted({rank for rank in ranks if rank is not None}, reverse=True):
        built = form.build(left_t[:rank], right[:rank], linears, False)
        for by_rank, layer in zip(layers, built, strict=True):
            assert isinstance(layer, FactoredLinear)
            layer.bias = None  # the enclosing layer adds the bias
            by_rank[rank] = layer
    return [
        SeparateLinear(
            by_rank,
            None if linear.bias is None else linear.bias.data,
            linear.weight.data if None in ranks else None,
        )
        for by_rank, linear in zip(layers, linears, strict=True)
    ]


@contextmanager
def compressed(
    model: nn.Module,
    targets: Sequence[Target],
    plans: Sequence[RankPlan],
    form: Form,
    factors: Callable[[str, int], tuple[Tensor, Tensor]],
) -> Iterator[None]:
    """While active, the model is compressed as by :func:`compress`; then it is dense again.

    The dense layers stay in memory meanwhile.
    """
    dense = {part.name: _linear(model, part.name) for t in targets for part in t.layers}
    try:
        compress(model, targets, plans, form, factors)
        yield
    finally:
        for name, linear in dense.items():
            replace(model, name, linear)


def _linear(model: nn.Module, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def stored_parameters(targets: Sequence[Target], plans: Sequence[RankPlan], form: Form) -> int:
    """Parameters that must be stored to run all of these plans; computed, not measured."""
    kept = (t for t in targets if any(plan.ranks[t.name] is None for plan in plans))
    costs = (form.cost(rank, t) for t in targets for rank in _stored_ranks(t, plans, form))
    return sum(costs) + sum(target.dense for target in kept)


def stored_index_bytes(targets: Sequence[Target], plans: Sequence[RankPlan], form: Form) -> int:
    """Bytes of the integers that the form stores beside the parameters; computed."""
    return sum(form.index_bytes(r, t) for t in targets for r in _stored_ranks(t, plans, form))


def _stored_ranks(target: Target, plans: Sequence[RankPlan], form: Form) -> set[int]:
    """Ranks that are stored: the largest one in a nested form, else each of them."""
    ranks = {rank for plan in plans if (rank := plan.ranks[target.name]) is not None}
    return {max(ranks)} if ranks and form.NESTED else ranks


def check_counts(model: nn.Module, targets: Sequence[Target], plans: Plans, form: Form) -> None:
    """Check that activated and stored parameters, counted on the modules, are as planned.

    Raises:
        AssertionError: If they are not; a record would be wrong.
    """
    names = [layer.name for target in targets for layer in target.layers]
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
