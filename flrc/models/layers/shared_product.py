"""Computes once what the layers of a group do with their common input.

Part of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flrc.models.layers.factored_linear import FactoredLinear


@dataclass
class _Remembered:
    """A product, and everything that must be the same for it to be used again.

    Attributes:
        tensors: The input and the weights; held, so that no other object can take their identity.
        state: Their contents' state, the active rank and the automatic precision.
        product: ``(..., rank)``.
        used: Layers that have used it, by identity.
    """

    tensors: tuple[Tensor, ...]
    state: tuple[object, ...]
    product: Tensor
    used: set[int] = field(default_factory=set)


class SharedProduct:
    """The product of a group's common input with its common factor, computed once per input.

    q, k and v (and gate and up) are called one after another with the very same tensor. The first
    of them computes the product, the others find it, and after the last one it is forgotten.
    Anything else is computed afresh: another tensor object (whatever its address), a tensor changed
    in place since (torch counts the changes), another rank, other weights, a layer that is called a
    second time. Nothing is remembered where gradients are recorded, in inference mode (which counts
    no changes) or under compilation. What is remembered is replaced whole, never changed, so
    threads see a product of their own input or none.

    A write that torch itself does not see (through ``tensor.data`` or a numpy view), between two
    layers' calls in one pass, is not seen here either.

    Args:
        members: Layers of the group.
    """

    def __init__(self, members: int) -> None:
        self.members = members
        self._last: _Remembered | None = None

    def __call__(self, layer: FactoredLinear, x: Tensor) -> Tensor:
        """``layer.project(x)``, remembered from another layer of the group where that is safe.

        Args:
            layer: The layer that asks.
            x: Its input, ``(..., d_in)``.

        Returns:
            ``(..., rank)``; not to be changed in place.
        """
        rows = layer.input_rows
        tensors = (x, *rows.parameters(), *rows.buffers())
        state = _state(tensors)
        if state is None:
            self._last = None
            return layer.project(x)
        state = (layer.rank, *state)
        last = self._last
        if (
            last is None
            or last.state != state
            or any(a is not b for a, b in zip(last.tensors, tensors, strict=True))
            or id(layer) in last.used
        ):
            self._last = None  # the old product is freed before the new one is made
            last = _Remembered(tensors, state, layer.project(x))
            self._last = last
        last.used.add(id(layer))
        if len(last.used) == self.members:
            self._last = None
        return last.product


def _state(tensors: tuple[Tensor, ...]) -> tuple[object, ...] | None:
    """What changes when the tensors' contents may have; None where that cannot be told."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return None
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return None  # each layer keeps a graph of its own
    device = tensors[0].device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    try:
        contents = [(t._version, t.data_ptr(), t.shape, t.stride()) for t in tensors]
    except RuntimeError:  # an inference tensor counts no versions, a wrapped one has no address
        return None
    return (precision, *contents)
