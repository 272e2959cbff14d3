"""Traces of the loss's Hessian, weight by weight, by Hutchinson's estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from flrc.calibration.statistics import not_finite
from flrc.calibration.weight_gradients import sequence_loss
from flrc.core.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.plans.target import Target


def signs(shapes: Sequence[torch.Size], generator: torch.Generator) -> list[Tensor]:
    """Independent +1 and -1 with equal chances, one int8 tensor a shape (Rademacher)."""
    return [
        torch.randint(0, 2, shape, generator=generator, dtype=torch.int8) * 2 - 1
        for shape in shapes
    ]


def quadratic_forms(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], directions: Sequence[Tensor]
) -> list[float]:
    """``z_w . (H z)_w`` by weight, with ``H`` the Hessian over all weights together.

    Its mean over random signs is the trace of the weight's own diagonal block: what other blocks
    add has mean 0.

    Args:
        gradients: Of a scalar, with a graph (``create_graph=True``).
        weights: What the gradients are with respect to.
        directions: ``z``, of the weights' shapes and dtypes.
    """
    known = [(g, z) for g, z in zip(gradients, directions, strict=True) if g.requires_grad]
    products = torch.autograd.grad(
        [g for g, _ in known], weights, [z for _, z in known],
        retain_graph=True, materialize_grads=True,
    )  # fmt: skip
    return [
        float((z * product).sum(dtype=torch.float64))
        for z, product in zip(directions, products, strict=True)
    ]


def hessian_traces(
    model: PreTrainedModel,
    targets: Sequence[Target],
    sequences: Sequence[Tensor],
    draws: int,
    seed: int,
) -> dict[str, float]:
    """Estimated trace of the Hessian of the mean token loss over each layer's weight, with sign.

    Holds, besides the model and one sequence's graph, three times the size of all weights. Flash
    kernels of attention have no second derivative, so the plain one is used here.

    Args:
        model: In evaluation mode; left without gradients.
        targets: Layers, or groups of layers.
        sequences: Token ids ``(tokens,)`` each.
        draws: Random directions for each sequence; all differ.
        seed: Of the directions; drawn on the CPU, so that every device sees the same.

    Returns:
        By layer name (not by group): the mean over draws and tokens.

    Raises:
        UserError: If a loss is not finite.
    """
    layers = [layer for target in targets for layer in target.layers]
    weights: list[Tensor] = [model.get_parameter(f"{layer.name}.weight") for layer in layers]
    generator = torch.Generator().manual_seed(seed)
    sums = [0.0] * len(layers)
    model.requires_grad_(False)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        doing = "Hessian traces, sequence by sequence"
        for sequence in progress(sequences, doing, len(sequences)):
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                loss = sequence_loss(model, sequence)
                if not bool(torch.isfinite(loss)):
                    raise not_finite("the model's logits on the calibration sequences")
                # A weight that no token reached has zeros, and no graph behind them.
                gradients = torch.autograd.grad(
                    loss, weights, create_graph=True, materialize_grads=True
                )
                for _ in range(draws):
                    drawn = signs([weight.shape for weight in weights], generator)
                    directions = [z.to(w) for z, w in zip(drawn, weights, strict=True)]
                    found = quadratic_forms(gradients, weights, directions)
                    sums = [s + f for s, f in zip(sums, found, strict=True)]
            del loss, gradients
    finally:
        model.requires_grad_(False)
    count = draws * sum(len(sequence) - 1 for sequence in sequences)
    return {layer.name: total / count for layer, total in zip(layers, sums, strict=True)}
