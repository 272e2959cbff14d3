"""Runs a model that one GPU does not hold on all of them."""

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

Place = Any
"""A device as torch takes it; a GPU by its number."""
HEADROOM = 0.9
"""Share of a GPU's free memory that weights may take; the rest is for what is computed."""


@dataclass
class Spread(Runtime):
    """Consecutive decoder blocks on each GPU, in the order of the model, by accelerate.

    Weights stay where they are; hidden states travel from one GPU to the next. Rates, schedules and
    numbers are those of the eager runtime: nothing is computed in another way.

    Attributes:
        memory_gb: Most weights on one GPU, in 10^9 bytes, of nine tenths of what is free; None:
            shared evenly.
    """

    name: str = "spread"
    memory_gb: float | None = None

    def check(self) -> None:
        """A GPU holds something."""
        self.require(
            self.memory_gb is None or self.memory_gb > 0,
            "memory_gb",
            "above 0, or null for what is free",
        )

    def check_device(self, device: torch.device) -> None:
        """There are GPUs."""
        if device.type != "cuda":
            raise UserError(
                "runtime=spread spreads a model over GPUs",
                given=f"a run on {device.type}",
                allowed="CUDA devices",
                fix="runtime=eager, or runtime=offload to stream it from disk",
            )

    @contextmanager
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> Iterator[None]:
        """See :class:`~flrc.runtime.base.Runtime`; the model stays spread afterwards.

        Raises:
            UserError: If the GPUs do not hold it.
        """
        import torch
        from accelerate.utils import get_balanced_memory

        from flrc.models.anatomy.placement import stay_on_host

        model.eval()
        stay_on_host(model)  # so that what is free on the GPUs is known
        torch.cuda.empty_cache()
        free = {g: torch.cuda.mem_get_info(g)[0] for g in range(torch.cuda.device_count())}
        most = {gpu: int(HEADROOM * size) for gpu, size in free.items()}
        if self.memory_gb is None:
            most = get_balanced_memory(model, most, no_split_module_classes=_blocks(model))
        else:
            most = {gpu: min(size, int(self.memory_gb * 1e9)) for gpu, size in most.items()}
        spread(model, device_map(model, {g: size for g, size in most.items() if g in free}))
        yield


def device_map(model: nn.Module, memory: Mapping[Place, int]) -> dict[str, Place]:
    """Which device holds which module: blocks whole, consecutive ones together.

    Args:
        model: Compressed or dense.
        memory: Bytes of weights that each device takes, in the order in which they are filled;
            accelerate keeps room for the largest layer on the first.

    Raises:
        UserError: If they do not hold the model.
    """
    from accelerate import infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    found: dict[str, Place] = infer_auto_device_map(
        model, max_memory=dict(memory), no_split_module_classes=_blocks(model)
    )
    outside = [name for name, place in found.items() if place not in memory]
    if outside:
        sizes = compute_module_sizes(model)
        given = " + ".join(f"{size / 1e9:.3g}" for size in memory.values())
        raise UserError(
            "the GPUs do not hold the model",
            given=f"{given} GB for {sizes[''] / 1e9:.3g} GB of weights and room for a layer",
            allowed=f"{sum(sizes[name] for name in outside) / 1e9:.3g} GB more",
            fix="runtime=offload streams what does not fit",
        )
    return found


def spread(model: nn.Module, places: Mapping[str, Place]) -> None:
    """Move modules to their devices; what they are called with follows them.

    Args:
        model: Changed in place.
        places: From :func:`device_map`.
    """
    from accelerate import dispatch_model

    keys: Any = getattr(model, "_skip_keys_device_placement", None)
    first = next(iter(places.values()))  # of the embeddings: where ids are sent
    dispatch_model(model, dict(places), first, skip_keys=keys, force_hooks=True)


def _blocks(model: nn.Module) -> list[str]:
    from flrc.models.anatomy.blocks import decoder_blocks

    return sorted({type(block).__name__ for block in decoder_blocks(model)[1]})
