"""The dense model that computes what a compressed one does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flrc.core.progress import progress
from flrc.models.layers.compressed_layers import compressed_layers, replace
from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.factored_linear import FactoredLinear

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.checkpoints.checkpoint import Loaded


@torch.no_grad()
def dense_weight(layer: FactoredLinear | DenseLinear) -> Float[Tensor, "m n"]:
    """``(d_out, d_in)`` float64: the matrix that a layer multiplies with, at its active rank.

    Taken from what the layer does to the unit vectors, whatever its form and precision.
    """
    alone = copy.deepcopy(layer).double()
    alone.bias = None
    rows = next(p for p in alone.parameters())
    unit = torch.eye(layer.in_features, dtype=torch.float64, device=rows.device)
    product: Tensor = alone(unit)
    return product.T.contiguous()


@torch.no_grad()
def densify(model: nn.Module) -> None:
    """Replace every compressed layer by the ``nn.Linear`` that computes the same.

    Args:
        model: Changed in place; its active plan is what it keeps.
    """
    for name, layer in progress(list(compressed_layers(model).items()), "writing out products"):
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
    """Write a checkpoint's dense equivalent, as any model of its base's kind is written.

    It holds the constant plan and loads wherever the base model does; nothing of it is smaller or
    faster than the dense model was.

    Args:
        loaded: From :func:`flrc.load`; densified in place.
        folder: Where to; must not exist or be empty.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    from flrc.models.checkpoints.huggingface import BASE

    model: PreTrainedModel = loaded.model
    tokenizer: PreTrainedTokenizerBase = loaded.tokenizer
    densify(model)
    base = type(model.config).__bases__[0]
    fields = model.config.to_dict()
    for key in ("model_type", "auto_map", "architectures", BASE):
        fields.pop(key, None)
    plain = MODEL_FOR_CAUSAL_LM_MAPPING[base]
    with torch.device("meta"):
        written = plain(base(**fields))
    written.load_state_dict(model.state_dict(), assign=True)
    written.tie_weights()
    written.generation_config = model.generation_config
    written.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
