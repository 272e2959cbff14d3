"""Rows of 8-bit integers (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flrc.models.layers.rows import Rows

LARGEST = 127
"""Largest magnitude of an 8-bit integer in symmetric rounding."""

FARTHEST = 8
"""Largest magnitude of a column's exponent, to stay in the range of half precision."""


class Int8Rows(Rows):
    """Rows of 8-bit integers: ``scales[i] * integers[i, j] * 2 ** exponents[j]``.

    Rounding is symmetric. Each column is first divided by a power of two near its size, so that a
    few large columns do not reduce the precision of the others; a row's scale then comes from its
    largest magnitude. For the first ``fine`` rows the rounding error is quantized and stored too,
    which gives them 16 bits. Products use the integers in the input's dtype and are scaled before
    or after, so only the rows are rounded, and a prefix of the rows is a valid matrix.

    Args:
        values: ``(count, width)``, any float dtype; the scales are float32, also after
            ``model.to(dtype)``: float16 does not have the range for them.
        fine: Number of leading rows with 16 bits.

    Source: FLRC (arXiv 2510.09332), appendix J, uses int8 without details. Scales for columns as
        well as rows: equilibration of a matrix (Ruiz, RAL-TR-2001-034), by root mean squares.
    """

    scales: Tensor
    exponents: Tensor
    remainder: Tensor

    def __init__(self, values: Float[Tensor, "r k"], fine: int = 0) -> None:
        values = values.detach().float()
        exponents = _column_exponents(values)
        values = torch.ldexp(values, -exponents)
        largest = values.abs().amax(1) if values.shape[1] else values.new_zeros(len(values))
        tiny = torch.finfo(torch.float32).tiny  # the scale of a nonzero row is not zero
        scales = torch.where(largest > 0, (largest / LARGEST).clamp_min(tiny), 1.0)
        exact = values / scales[:, None]
        rounded = exact.round()
        super().__init__(rounded.to(torch.int8))
        self.register_buffer("scales", scales)
        self.register_buffer("exponents", exponents.to(torch.int8))
        # At most half a step, so twice 127 to the step.
        remainder = ((exact - rounded)[:fine] * (2 * LARGEST)).round().to(torch.int8)
        self.register_buffer("remainder", remainder)
        self.row_bytes += scales.itemsize
        self.fixed_bytes = self.exponents.nbytes + self.remainder.nbytes

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Int8Rows:
        """Moves and copies as in any module; a conversion to another dtype leaves the scales."""
        scales = self.scales
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.scales.dtype != scales.dtype:
            self.scales = scales.to(self.scales.device)
        return self

    def _columns(self, dtype: torch.dtype) -> Tensor:
        return torch.exp2(self.exponents.to(dtype))

    def _products(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        x = x * self._columns(x.dtype)
        product = nn.functional.linear(x, values.to(x.dtype))
        fine = min(len(self.remainder), len(values))
        if fine:
            rest = nn.functional.linear(x, self.remainder[:fine].to(x.dtype))
            product[..., :fine] += rest / (2 * LARGEST)
        product = product * self.scales[: len(values)].to(x.dtype)
        return product if plus is None else product + plus

    def _combine(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        x = x * self.scales[: len(values)].to(x.dtype)
        sums = nn.functional.linear(x, values.to(x.dtype).T)
        fine = min(len(self.remainder), len(values))
        if fine:
            first = x[..., :fine] / (2 * LARGEST)
            sums = sums + nn.functional.linear(first, self.remainder[:fine].to(x.dtype).T)
        sums = sums * self._columns(x.dtype)
        return sums if plus is None else sums + plus

    def dense(self) -> Float[Tensor, "r k"]:
        """The rounded values, float32."""
        assert self.values is not None
        integers = self.values.float()
        integers[: len(self.remainder)] += self.remainder.float() / (2 * LARGEST)
        return torch.ldexp(integers * self.scales[:, None], self.exponents.int())


def _column_exponents(values: Float[Tensor, "r k"]) -> Tensor:
    """``(k,)`` int32 exponents of the columns' sizes over their mean, with rows weighted equally.

    Rows and columns are divided in turn by their root mean squares; three rounds are enough.
    """
    if values.is_meta or not values.numel():
        return values.new_zeros(values.shape[1], dtype=torch.int32)
    columns = values.new_ones(values.shape[1])
    tiny = torch.finfo(torch.float32).tiny
    for _ in range(3):
        rows = (values / columns).square().mean(1, keepdim=True).sqrt().clamp_min(tiny)
        columns = (values / rows).square().mean(0).sqrt()
        columns = columns / columns.mean().clamp_min(tiny)
        columns = columns.clamp(2.0**-FARTHEST, 2.0**FARTHEST)
    return torch.log2(columns).round().int()
