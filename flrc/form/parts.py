"""What the layers of one target have in common, whatever their form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from flrc.models.layers.shared_product import SharedProduct

Part = tuple[Tensor, Tensor | None, Tensor | None, SharedProduct | None]
"""A layer's own left factor, its bias, its dense weight if that is kept, and the product that the
layers of a group share."""


def parts(left_t: Tensor, linears: Sequence[nn.Linear], keep_dense: bool) -> Iterator[Part]:
    """Split ``left_t (r, d_out)`` among the layers, rounded to their dtype; see ``Form.build``."""
    shared = SharedProduct(len(linears)) if len(linears) > 1 else None
    widths = [linear.out_features for linear in linears]
    for linear, part in zip(linears, torch.split(left_t, widths, dim=1), strict=True):
        yield (
            part.to(linears[0].weight).contiguous(),
            None if linear.bias is None else linear.bias.data,
            linear.weight.data if keep_dense else None,
            shared,
        )
