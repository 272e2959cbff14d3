"""Dead layers, whose statistics determine no factors: detected and marked (pure maths)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from flrc.decomposition.base import Decomposition, Inputs, Outputs
from flrc.decomposition.factors import DENSE, ZERO, Factors
from flrc.decomposition.truncation import truncated
from flrc.plans.target import Target


def why_dead(weight: Tensor, inputs: Inputs, outputs: Outputs) -> tuple[str, str] | None:
    """Why a layer is dead, and whether it is kept as ``zero`` or ``dense``; None if it is not.

    Where weight times inputs is 0 on all of calibration, rank 0 loses nothing: ``zero``. Where no
    token or gradient shows what the layer's output is for, or where they overflowed, there is no
    basis for any rank: ``dense``. Only exact zeros count. Statistics that are not read are None.
    """
    if not bool(weight.any()):
        return "the weight is zero", ZERO
    if inputs is not None and inputs.tokens == 0:
        return "no calibration token reaches it", DENSE
    if inputs is not None and not inputs.finite:
        return "its inputs are not finite on all calibration tokens", DENSE
    if outputs is not None and not outputs.finite:
        return "the gradients at its outputs are not finite on all calibration tokens", DENSE
    if inputs is not None and inputs.zero:
        return "its inputs are zero on all calibration tokens", ZERO
    if outputs is not None and outputs.zero:
        return "the gradients at its outputs are zero on all calibration tokens", DENSE
    return None


def decompose_target(
    decomposition: Decomposition, target: Target, weight: Tensor, inputs: Inputs, outputs: Outputs
) -> Factors:
    """The factors of a target; a dead one is decomposed by plain SVD, and marked.

    A dead layer needs factors too, since a replayed plan may use them. A dead layer in a group that
    is not dead is decomposed with the others, and noted. Statistics are as for :func:`why_dead`.
    """
    dead = why_dead(weight, inputs, outputs)
    if dead is None:
        factors = decomposition.decompose(weight, inputs, outputs)
        notes = [*([factors.rescue] if factors.rescue else []), *_dead_members(target, weight)]
        return replace(factors, rescue="; ".join(notes) or None)
    reason, kept = dead
    factors = truncated(weight)
    # Where the output is 0, rank 0 loses nothing.
    spectrum = factors.spectrum * 0 if kept == ZERO else factors.spectrum
    return replace(factors, spectrum=spectrum, rescue=reason, kept=kept)


def _dead_members(target: Target, weight: Tensor) -> list[str]:
    """A note for each layer of a group whose own rows of the weight are zero."""
    parts = torch.split(weight, [layer.d_out for layer in target.layers])
    return [
        f"the weight of {layer.name} is zero: kept in its group"
        for layer, part in zip(target.layers, parts, strict=True)
        if not bool(part.any())
    ]
