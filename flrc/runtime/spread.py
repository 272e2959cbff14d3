"""Runs a model that is too large for one GPU on several GPUs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError
from flrc.runtime.base import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from flrc.plans.target import Target

Device = Any
"""Any device identifier that torch accepts; GPUs by their index."""
HEADROOM = 0.9
"""Share of a GPU's free memory for weights; the rest is for activations."""


@dataclass
class Spread(Runtime):
    """Distributes consecutive decoder blocks over the GPUs with accelerate.

    Weights stay where they are; hidden states are copied from one GPU to the next. Results are
    those of the eager runtime: the computation is the same.

    Attributes:
        memory_gb: Largest amount of weights on one GPU, in 10^9 bytes, up to nine tenths of its
            free memory; None distributes them evenly.
    """

    name: str = "spread"
    memory_gb: float | None = None

    def check(self) -> None:
        """Check that the memory per GPU is above 0."""
        self.require(
            self.memory_gb is None or self.memory_gb > 0,
            "memory_gb",
            "above 0, or null to share the weights evenly",
        )

    def check_device(self, device: torch.device) -> None:
        """Raise UserError unless the device is a GPU."""
        if device.type != "cuda":
            raise UserError(
                "runtime=spread needs GPUs",
                given=f"a run on {device.type}",
                allowed="CUDA devices",
                fix="use runtime=eager, or runtime=offload to stream the model from disk",
            )

    @contextmanager
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> Iterator[None]:
        """See :class:`~flrc.runtime.base.Runtime`; the model stays on the GPUs afterwards."""
        import torch
        from accelerate.utils import get_balanced_memory

        from flrc.models.anatomy.placement import stay_on_host

        model.eval()
        stay_on_host(model)  # so that the free memory of the GPUs is known
        torch.cuda.empty_cache()
        free = {g: torch.cuda.mem_get_info(g)[0] for g in range(torch.cuda.device_count())}
        limits = {gpu: int(HEADROOM * size) for gpu, size in free.items()}
        if self.memory_gb is None:
            limits = get_balanced_memory(model, limits, no_split_module_classes=_blocks(model))
        else:
            limits = {gpu: min(size, int(self.memory_gb * 1e9)) for gpu, size in limits.items()}
        spread(model, device_map(model, {g: size for g, size in limits.items() if g in free}))
        yield


def device_map(model: nn.Module, memory: Mapping[Device, int]) -> dict[str, Device]:
    """Assign modules to devices: each block as a whole, consecutive blocks together.

    Args:
        model: Compressed or dense.
        memory: Maximum bytes of weights on each device, in the order in which the devices are
            filled; accelerate reserves memory for the largest layer on the first.

    Raises:
        UserError: If the model does not fit.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    places: dict[str, Device] = infer_auto_device_map(
        model, max_memory=dict(memory), no_split_module_classes=_blocks(model)
    )
    outside = [name for name, place in places.items() if place not in memory]
    if outside:
        sizes = compute_module_sizes(model)
        given = " + ".join(f"{size / 1e9:.3g}" for size in memory.values())
        raise UserError(
            "the model does not fit on the GPUs",
            given=f"{given} GB for {sizes[''] / 1e9:.3g} GB of weights and space for one layer",
            allowed=f"{sum(sizes[name] for name in outside) / 1e9:.3g} GB more",
            fix="runtime=offload streams what does not fit",
        )
    return places


def spread(model: nn.Module, places: Mapping[str, Device]) -> None:
    """Move modules to the places of :func:`device_map`, with hooks that move their inputs."""
    from accelerate import dispatch_model

    keys: Any = getattr(model, "_skip_keys_device_placement", None)
    first = next(iter(places.values()))  # the device of the embedding, which token ids go to
    dispatch_model(model, dict(places), first, skip_keys=keys, force_hooks=True)


def _blocks(model: nn.Module) -> list[str]:
    from flrc.models.anatomy.blocks import decoder_blocks

    return sorted({type(block).__name__ for block in decoder_blocks(model)[1]})
