"""The dense model that is equivalent to a compressed one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from flrc.core.library_output import without_bars
from flrc.core.progress import progress
from flrc.models.checkpoints.huggingface import BASE
from flrc.models.layers.compressed_layers import compressed_layers, replace
from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.factored_linear import FactoredLinear

if TYPE_CHECKING:
    from flrc.models.checkpoints.checkpoint import Loaded


@torch.no_grad()
def dense_weight(layer: FactoredLinear | DenseLinear) -> Float[Tensor, "m n"]:
    """``(d_out, d_in)`` float64: the matrix that a layer multiplies by, at its active rank.

    Computed by applying the layer to the unit vectors, which works in any form and precision.
    """
    double = copy.deepcopy(layer).double()
    double.bias = None
    device = next(double.parameters()).device
    unit = torch.eye(layer.in_features, dtype=torch.float64, device=device)
    product: Tensor = double(unit)
    return product.T.contiguous()


@torch.no_grad()
def densify(model: nn.Module) -> None:
    """Replace every compressed layer by the ``nn.Linear`` that equals it at its active rank."""
    for name, layer in progress(
        list(compressed_layers(model).items()), "multiplying factors", unit="layer"
    ):
        weight = dense_weight(layer)
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), weight.dtype)
        linear = nn.Linear(
            layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta"
        )
        linear.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        if layer.bias is not None:
            linear.bias = layer.bias
        replace(model, name, linear)


def export(loaded: Loaded, folder: Path) -> None:
    """Write a checkpoint's dense equivalent as an ordinary model of the base's type.

    It holds the constant plan and loads wherever the base model does; it is as large and as slow
    as the dense model was.

    Args:
        loaded: From :func:`flrc.load`; densified in place.
        folder: Where to; must not exist or be empty.
    """
    model = loaded.model
    densify(model)
    base = type(model.config).__bases__[0]
    fields = model.config.to_dict()
    for key in ("model_type", "auto_map", "architectures", BASE):
        fields.pop(key, None)
    with torch.device("meta"):
        plain = MODEL_FOR_CAUSAL_LM_MAPPING[base](base(**fields))
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    with without_bars():
        plain.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
