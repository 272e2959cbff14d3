"""Decoder blocks that wait in host memory and visit the device while they compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.models.anatomy.blocks import decoder_blocks

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass
class Visit:
    """What a block computes while it waits elsewhere: copies on the device, then nothing there.

    The copies are part of the graph, so gradients reach the waiting weights themselves, on the
    host. A graph that is held keeps the copies of all its blocks; see
    :func:`~flrc.calibration.activation_checkpointing.recomputed`.

    accelerate's hooks are not used: between a forward and a backward pass they leave weights on no
    device, and what is differentiated is not the parameter that a gradient's hook waits at.

    Attributes:
        block: Its parameters and buffers never leave the host.
        forward: What it computes.
        device: Where.
    """

    block: nn.Module
    forward: Callable[..., Any]
    device: torch.device

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The block's output, on the device."""
        with present(self.block, self.device):
            return self.forward(*arguments, **options)


@contextmanager
def present(block: nn.Module, device: torch.device) -> Iterator[None]:
    """While active, all that a block holds is a copy on the device; what is shared is one copy."""
    places: list[tuple[dict[str, Any], str, Tensor]] = []
    for module in block.modules():
        kinds: list[dict[str, Any]] = [module._parameters, module._buffers]  # type: ignore[list-item]
        for tensors in kinds:
            places += [(tensors, name, held) for name, held in tensors.items() if held is not None]
    copies: dict[int, Tensor] = {}
    try:
        for tensors, name, tensor in places:
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.to(device, copy=True)
            tensors[name] = copies[id(tensor)]
        yield
    finally:
        for tensors, name, tensor in places:
            tensors[name] = tensor


def wait_on_host(model: nn.Module, device: torch.device) -> None:
    """Embeddings, norms and head go to the device; every decoder block only visits it.

    Args:
        model: On the host; its files may be mapped into memory. Changed in place.
        device: Where it computes.
    """
    _, blocks = decoder_blocks(model)
    inside = set(blocks.modules())
    for module in model.modules():
        if module not in inside:
            for tensor in (*module.parameters(False), *module.buffers(False)):
                tensor.data = tensor.data.to(device)
    for block in blocks:
        block.forward = Visit(block, block.forward, device)


def waits_on_host(model: nn.Module) -> bool:
    """Whether its decoder blocks visit the device."""
    return isinstance(decoder_blocks(model)[1][0].forward, Visit)


def stay_on_host(model: nn.Module) -> None:
    """Bring all of a model to the host, where its blocks may wait already."""
    if waits_on_host(model):
        for block in decoder_blocks(model)[1]:
            del block.forward
    model.to("cpu")


def settle(model: nn.Module) -> None:
    """Bring a model whose blocks visited its device there, to stay; others are left alone."""
    if not waits_on_host(model):
        return
    _, blocks = decoder_blocks(model)
    for block in blocks:
        visit = block.forward
        assert isinstance(visit, Visit)
        block.to(visit.device)
        del block.forward
