"""A digest of a model's weights: whether they are still those that were measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from flrc.models.checkpoints.assembly import first_names

if TYPE_CHECKING:
    from hashlib import _Hash

    from torch import Tensor, nn

WEIGHTS = "weights"
"""Entry of a record's ``meta``: the digest of the weights that its measurements belong to."""


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of the names, dtypes, shapes and values of what is stored; shared tensors once."""
    tensors = model.state_dict()
    digest = hashlib.sha256()
    add_tensors(digest, {name: tensors[name] for name in sorted(first_names(model).values())})
    return digest.hexdigest()


def add_tensors(digest: _Hash, tensors: Mapping[str, Tensor]) -> None:
    """Add the names, dtypes, shapes and values of tensors, in their order, to a digest."""
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
