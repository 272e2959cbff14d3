"""Temporarily replaces the forward of modules; their weights stay untouched."""

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
    """While active, each module computes the given function instead of its own forward."""

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
def truncated(model: nn.Module, factors: Iterable[tuple[Target, Factors]]) -> Iterator[None]:
    """While active, the layers of these targets compute ``y = left^T (right x) + bias``.

    Each layer of a group uses its own columns of ``left_t``. Factors are converted to the model's
    device and the weights' dtype; neither parameters nor modules are exchanged.
    """
    device = next(model.parameters()).device  # the embedding's: blocks may be in host memory
    forwards: list[tuple[nn.Module, Callable[..., Any]]] = []
    for target, (left_t, right) in factors:
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
