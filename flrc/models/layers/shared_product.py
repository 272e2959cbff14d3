"""The product that the layers of a group share (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from flrc.models.layers.factored_linear import FactoredLinear


@dataclass
class _Cached:
    """A product ``(..., rank)``, and everything that must be unchanged for it to be reused."""

    tensors: tuple[Tensor, ...]  # input and weights, kept alive so that their ids stay unique
    state: tuple[object, ...]  # versions of their contents, active rank, autocast dtype
    product: Tensor
    used: set[int] = field(default_factory=set)  # ids of the layers that have used it


class SharedProduct:
    """The product of a group's common input with its common factor, computed once per input.

    q, k and v (and gate and up) are called one after another with the same tensor. The first layer
    computes the product, the others reuse it, and after the last one it is dropped. It is computed
    again for another tensor object (whatever its address), a tensor changed in place since (torch
    counts the changes), another rank, other weights, or a layer that is called a second time.
    Nothing is cached while gradients are recorded, in inference mode (which does not count changes)
    or under compilation. The cache entry is replaced, never changed, so concurrent threads see a
    product of their own input or none.

    Writes that torch does not count (through ``tensor.data`` or a numpy view) between the calls of
    two layers are not detected.

    Args:
        members: Number of layers in the group.
    """

    def __init__(self, members: int) -> None:
        self.members = members
        self._last: _Cached | None = None

    def __call__(self, layer: FactoredLinear, x: Tensor) -> Tensor:
        """``layer.project(x)``, reused from another layer of the group if that is safe.

        The result ``(..., rank)`` must not be changed in place.
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
            self._last = None  # frees the old product before the new one is computed
            last = _Cached(tensors, state, layer.project(x))
            self._last = last
        last.used.add(id(layer))
        if len(last.used) == self.members:
            self._last = None
        return last.product


def _state(tensors: tuple[Tensor, ...]) -> tuple[object, ...] | None:
    """A value that changes whenever the tensors' contents may have; None if that is unknown."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return None
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return None  # each layer needs its own graph
    device = tensors[0].device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    try:
        contents = [(t._version, t.data_ptr(), t.shape, t.stride()) for t in tensors]
    except RuntimeError:  # inference tensors have no version, wrapped ones no address
        return None
    return (precision, *contents)
