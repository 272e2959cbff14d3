"""A dense layer whose weight is stored as rows (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from torch import Tensor, nn

from flrc.models.layers.rows import Rows


class DenseLinear(nn.Module):
    """``y = weight x + bias``, as ``nn.Linear``.

    Args:
        weight: ``(d_out, d_in)``.
        bias: ``(d_out,)`` or None.
    """

    def __init__(self, weight: Rows, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = weight.width, weight.count
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_out)``."""
        return self.weight.products(x, plus=self.bias)
