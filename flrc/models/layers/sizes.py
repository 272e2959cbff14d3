"""Bytes that a model takes as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from flrc.plans.target import Target


def stored_bytes(model: nn.Module, targets: Sequence[Target]) -> dict[str, int]:
    """Bytes measured on the model as it is: ``model_stored``, ``targets_stored``.

    Parameters and the buffers of the state dict; what is held in several places counts once.
    """
    names = [layer.name for target in targets for layer in target.layers]
    layers = nn.ModuleList(model.get_submodule(name) for name in names)
    return {"model_stored": _bytes(model), "targets_stored": _bytes(layers)}


def _bytes(module: nn.Module) -> int:
    held = {t.data_ptr(): t.nbytes for t in module.state_dict().values() if t.numel()}
    return sum(held.values())
