"""Finds and replaces the compressed layers of a model (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from torch import nn

from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.factored_linear import FactoredLinear


def compressed_layers(model: nn.Module) -> dict[str, FactoredLinear | DenseLinear]:
    """Factored and quantized dense layers by full name; layers inside another are left out."""
    layers: dict[str, FactoredLinear | DenseLinear] = {}
    outer = ""
    for name, module in model.named_modules():  # a module is followed by what it holds
        inside = bool(outer) and name.startswith(f"{outer}.")
        if isinstance(module, FactoredLinear | DenseLinear) and not inside:
            layers[name] = module
            outer = name
    return layers


def low_rank_layers(model: nn.Module) -> dict[str, FactoredLinear]:
    """The factored layers among :func:`compressed_layers`, in any form."""
    layers = compressed_layers(model)
    return {name: layer for name, layer in layers.items() if isinstance(layer, FactoredLinear)}


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` at ``name``; the previous layer is dropped."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
