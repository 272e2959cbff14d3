"""Traces of the loss's Hessian, weight by weight, with Hutchinson's estimator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from flrc.calibration.sequence_loss import requiring_grad, sequence_loss
from flrc.core.progress import progress
from flrc.plans.target import Target


def signs(shapes: Sequence[torch.Size], generator: torch.Generator) -> list[Tensor]:
    """Random signs (Rademacher variables), one int8 tensor per shape."""
    return [
        torch.randint(0, 2, shape, generator=generator, dtype=torch.int8) * 2 - 1
        for shape in shapes
    ]


def quadratic_forms(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], directions: Sequence[Tensor]
) -> list[float]:
    """``z_w . (H z)_w`` for each weight ``w``, with ``H`` the Hessian over all weights together.

    Its mean over random signs ``z`` is the trace of the weight's own diagonal block of ``H``: what
    the other weights add has mean 0. The gradients are those of a scalar with respect to the
    weights, with their graph; the directions ``z`` have the weights' shapes and dtypes.
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
    """Estimated (signed) trace of the Hessian of the mean token loss, by layer (not by group).

    Each sequence ``(tokens,)`` has its own ``draws`` random directions, drawn on the CPU: the same
    for every device. Besides the model (in evaluation mode; left without gradients) and one
    sequence's graph, memory holds three times the size of all weights. Flash attention has no
    second derivative, so the plain kernel is used.

    Raises:
        UserError: If a loss is not finite.
    """
    layers = [layer for target in targets for layer in target.layers]
    generator = torch.Generator().manual_seed(seed)
    sums = [0.0] * len(layers)
    with requiring_grad(model, layers) as by_name:
        weights: list[Tensor] = list(by_name.values())
        for sequence in progress(sequences, "Hessian traces", unit="sequence"):
            with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                loss = sequence_loss(model, sequence)
                # The gradient of a weight that no token reached is zero and has no graph.
                gradients = torch.autograd.grad(
                    loss, weights, create_graph=True, materialize_grads=True
                )
                for _ in range(draws):
                    drawn = signs([weight.shape for weight in weights], generator)
                    directions = [z.to(w) for z, w in zip(drawn, weights, strict=True)]
                    forms = quadratic_forms(gradients, weights, directions)
                    sums = [s + f for s, f in zip(sums, forms, strict=True)]
            del loss, gradients
    count = draws * sum(len(sequence) - 1 for sequence in sequences)
    return {layer.name: total / count for layer, total in zip(layers, sums, strict=True)}
