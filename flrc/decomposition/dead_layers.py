"""Layers whose statistics say nothing: found before they are decomposed, and kept (pure)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flrc.decomposition.factors import DENSE, ZERO, Factors
from flrc.decomposition.truncation import truncated

if TYPE_CHECKING:
    from flrc.calibration.statistics import InputStatistics, OutputStatistics
    from flrc.decomposition.base import Decomposition
    from flrc.plans.target import Target


def why_dead(
    weight: Tensor, inputs: InputStatistics | None, outputs: OutputStatistics | None
) -> tuple[str, str] | None:
    """Why there is nothing to decompose a weight by, and what it is kept as; None where there is.

    Where the product of weight and inputs is 0 on all of calibration, so is that of any factors:
    ``zero``, rank 0 loses nothing. Where no token or no gradient says what its output is for, no
    rank is better founded than another: ``dense``. So it is where inputs or gradients overflowed.
    Only exact zeros count, however small the rest.

    Args:
        weight: ``(d_out, d_in)``.
        inputs: Of its inputs; None where they are not read.
        outputs: Of the gradients at its outputs; None where they are not read.
    """
    if not bool(weight.any()):
        return "the weight is zero", ZERO
    if inputs is not None and inputs.tokens == 0:
        return "no calibration token reaches it", DENSE
    if inputs is not None and not inputs.finite:
        return "its inputs are not finite on all calibration tokens", DENSE
    if outputs is not None and not outputs.finite:
        return "the gradients at its outputs are not finite on all calibration tokens", DENSE
    if inputs is not None and not bool(inputs.gram.diagonal().any()):
        return "its inputs are zero on all calibration tokens", ZERO
    if outputs is not None and not bool(outputs.gram.diagonal().any()):
        return "the gradients at its outputs are zero on all calibration tokens", DENSE
    return None


def decompose_target(
    decomposition: Decomposition,
    target: Target,
    weight: Tensor,
    inputs: InputStatistics | None,
    outputs: OutputStatistics | None,
) -> Factors:
    """Factors by the decomposition; those of a dead layer by the plain SVD, and marked.

    A plan that is replayed may still ask for a dead layer's ranks, so it has factors too. A dead
    layer of a group that is not is decomposed with the others, and told.

    Args:
        decomposition: How the weight becomes factors.
        target: The layer, or the group of layers.
        weight: ``(d_out, d_in)``.
        inputs: Of its inputs; None where they are not read.
        outputs: Of the gradients at its outputs; None where they are not read.
    """
    found = why_dead(weight, inputs, outputs)
    if found is None:
        factors = decomposition.decompose(weight, inputs, outputs)
        told = [*([factors.rescue] if factors.rescue else []), *_dead_members(target, weight)]
        return replace(factors, rescue="; ".join(told) or None)
    reason, kept = found
    factors = truncated(weight)
    # What rank 0 loses of an output that is 0 is nothing.
    spectrum = factors.spectrum * 0 if kept == ZERO else factors.spectrum
    return replace(factors, spectrum=spectrum, rescue=reason, kept=kept)


def _dead_members(target: Target, weight: Tensor) -> list[str]:
    """What is told of layers of a group whose own part of the weight is zero."""
    parts = torch.split(weight, [layer.d_out for layer in target.layers])
    return [
        f"the weight of {layer.name} is zero: kept in its group"
        for layer, part in zip(target.layers, parts, strict=True)
        if not bool(part.any())
    ]
