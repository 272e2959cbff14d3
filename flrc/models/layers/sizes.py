"""Parameters and bytes, counted on the modules of a model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.plans.target import Target


def target_parameters(model: nn.Module, names: list[str]) -> tuple[int, int]:
    """Weights of the named layers: active now, and stored.

    Shared weights are counted once; biases and integer indices are not counted.
    """
    active = 0
    stored: dict[int, int] = {}
    projected: set[int] = set()
    for name in names:
        layer = model.get_submodule(name)
        own = {id(p): p.numel() for n, p in layer.named_parameters() if n != "bias"}
        stored |= own
        if not isinstance(layer, FactoredLinear):
            active += sum(own.values())
            continue
        active += layer.active_parameters
        if layer.rank is not None:
            # By object identity: this counts actual sharing, not planned sharing.
            shared = id(layer.input_rows)
            active -= layer.input_parameters if shared in projected else 0
            projected.add(shared)
    return active, sum(stored.values())


def stored_bytes(model: nn.Module, targets: Sequence[Target]) -> dict[str, int]:
    """Bytes of the state dict, shared tensors once: ``model_stored`` and ``targets_stored``."""

    def size(module: nn.Module) -> int:
        tensors = module.state_dict().values()
        return sum({t.data_ptr(): t.nbytes for t in tensors if t.numel()}.values())

    names = [layer.name for target in targets for layer in target.layers]
    layers = nn.ModuleList(model.get_submodule(name) for name in names)
    return {"model_stored": size(model), "targets_stored": size(layers)}
