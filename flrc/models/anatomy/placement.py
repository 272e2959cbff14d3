"""Decoder blocks that stay in host memory and are copied to the device to compute."""

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
    """The forward of a block in host memory: its tensors are copied to the device for each call.

    The copies are part of the graph, so gradients reach the parameters on the host. A graph keeps
    the copies of all its blocks alive; see
    :func:`~flrc.calibration.activation_checkpointing.checkpointed`.

    accelerate's hooks are not used: between forward and backward they leave the weights on no
    device, and gradients do not belong to the parameters whose hooks wait for them.

    Attributes:
        block: Its parameters and buffers never leave the host.
        forward: The block's own forward.
        device: Where it computes.
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
    """While active, a block's tensors are copies on the device; shared tensors are copied once."""
    places: list[tuple[dict[str, Any], str, Tensor]] = []
    for module in block.modules():
        kinds: list[dict[str, Any]] = [module._parameters, module._buffers]  # type: ignore[list-item]
        for tensors in kinds:
            places += [(tensors, name, own) for name, own in tensors.items() if own is not None]
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
    """Move embeddings, norms and head to the device; decoder blocks stay on the host."""
    _, blocks = decoder_blocks(model)
    inside = set(blocks.modules())
    for module in model.modules():
        if module not in inside:
            for tensor in (*module.parameters(False), *module.buffers(False)):
                tensor.data = tensor.data.to(device)
    for block in blocks:
        block.forward = Visit(block, block.forward, device)


def waits_on_host(model: nn.Module) -> bool:
    """Whether its decoder blocks stay in host memory."""
    return isinstance(decoder_blocks(model)[1][0].forward, Visit)


def stay_on_host(model: nn.Module) -> None:
    """Move a whole model to the host, whether or not its blocks are there already."""
    if waits_on_host(model):
        for block in decoder_blocks(model)[1]:
            del block.forward
    model.to("cpu")


def settle(model: nn.Module) -> None:
    """Move blocks that stay in host memory to the device for good; other models are unchanged."""
    for block in decoder_blocks(model)[1]:
        if isinstance(block.forward, Visit):
            block.to(block.forward.device)
            del block.forward
