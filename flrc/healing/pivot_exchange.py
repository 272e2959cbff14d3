"""Exchanges pivots of tuned layers, so that their coefficients are within the bound again."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from flrc.form.base import Form
from flrc.form.pivot_columns import pivot_columns
from flrc.form.pivoted import Pivoted
from flrc.healing.trained import Trained
from flrc.models.layers.pivoted_linear import PivotedLinear


@torch.no_grad()
def exchange_pivots(model: nn.Module, form: Form, trained: Trained) -> int:
    """Express layers whose coefficients have grown over the form's bound in other pivots.

    Tuning moves the coefficients by little, so few pivots change. The product of the factors stays
    the same but for rounding; layers within the bound are not touched. Computed in float64 from the
    masters.

    Returns:
        Number of targets that were changed.
    """
    if not isinstance(form, Pivoted):
        return 0
    sharing: dict[int, list[PivotedLinear]] = defaultdict(list)
    for layer in model.modules():
        if isinstance(layer, PivotedLinear):
            sharing[id(layer.coefficients)].append(layer)
    names = {id(parameter): name for name, parameter in trained.parameters.items()}

    def master(parameter: nn.Parameter | None) -> Tensor:
        assert parameter is not None
        name = names.get(id(parameter))
        return parameter.data if name is None else trained.masters[name]

    changed = 0
    for layers in sharing.values():
        first = layers[0]
        coefficients = master(first.coefficients.values)
        # As it will be stored: rounding may carry a coefficient over the bound.
        stored = coefficients.to(first.coefficients.dense().dtype)
        if not coefficients.numel() or float(stored.abs().max()) <= form.bound:
            continue
        changed += 1
        rank, width = first.left_t.count, first.in_features
        order = first.order.long()
        right = coefficients.new_zeros(rank, width, dtype=torch.float64)
        right[:, order[:rank]] = torch.eye(rank, dtype=torch.float64, device=right.device)
        right[:, order[rank:]] = coefficients.double()
        pivots = pivot_columns(right, form.bound)
        change = right[:, pivots.order[:rank].to(right.device)].T  # A_J^T of left' = B A_J
        for layer in layers:
            left = master(layer.left_t.values)
            left.copy_(change @ left.double())
            layer.order.copy_(pivots.order)
        coefficients.copy_(pivots.coefficients)
    trained.round()
    return changed
