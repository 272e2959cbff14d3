"""Cuts layers of a model for a while: their forward is replaced, their weights stay untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from flrc.plans.target import Target

Factors = tuple[Tensor, Tensor]
"""``left_t (rank, d_out)`` and ``right (rank, d_in)``."""


@contextmanager
def replaced(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """While active, each module computes the given function; then, in any case, what it did."""

    def restore(module: nn.Module, before: Any) -> None:
        if before is None:
            module.__dict__.pop("forward", None)
        else:
            module.forward = before

    with ExitStack() as stack:
        for module, forward in forwards:
            stack.callback(restore, module, module.__dict__.get("forward"))
            module.forward = forward  # type: ignore[method-assign]
        yield


@contextmanager
def cut(model: nn.Module, cuts: Iterable[tuple[Target, Factors]]) -> Iterator[None]:
    """While active, ``y = left^T (right x) + bias`` in the layers of these targets.

    The factors of a group are shared out: every layer takes its own columns of ``left_t``.

    Args:
        model: Holds the dense layers; neither parameters nor modules are exchanged.
        cuts: Targets with factors, which are moved to the model's device and the weights' dtype.
    """
    device = next(model.parameters()).device  # of the embedding: blocks may wait elsewhere
    forwards: list[tuple[nn.Module, Callable[..., Any]]] = []
    for target, (left_t, right) in cuts:
        begin = 0
        for layer in target.layers:
            linear = model.get_submodule(layer.name)
            assert isinstance(linear, nn.Linear)
            dtype = linear.weight.dtype
            part = left_t[:, begin : begin + layer.d_out].to(device, dtype)
            forwards.append((linear, _product(part, right.to(device, dtype), linear)))
            begin += layer.d_out
    with replaced(forwards):
        yield


def _product(left_t: Tensor, right: Tensor, linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        output = nn.functional.linear(x, right) @ left_t
        return output if linear.bias is None else output + linear.bias

    return forward
