"""The matrices that factored layers are made of, stored row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

LARGEST = 127
"""Largest magnitude of an 8-bit integer in symmetric rounding."""


class Rows(nn.Module, ABC):
    """A matrix ``(count, width)`` whose first rows can be used alone, without a copy.

    Layers that share a matrix hold the very same object.

    Args:
        count: Rows: one a rank, in a factor.
        width: Entries of a row.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.count, self.width = count, width

    def extra_repr(self) -> str:
        """Size."""
        return f"count={self.count}, width={self.width}"

    @abstractmethod
    def products(
        self,
        x: Float[Tensor, "*batch k"],
        rank: int | None = None,
        plus: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*batch q"]:
        """Products of ``x`` with each of the first rows.

        Args:
            x: ``(..., width)``; with a ``plus`` of two dimensions ``(tokens, width)``.
            rank: How many rows; None for all.
            plus: Added before the result is rounded: one number a row, or ``(tokens, rank)``.
        """

    @abstractmethod
    def combine(
        self,
        x: Float[Tensor, "*batch q"],
        rank: int | None = None,
        plus: Float[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*batch k"]:
        """Sum of the first rows, each times its entry of ``x``, ``(..., rank)``; and ``plus``."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "r k"]:
        """The whole matrix, in floating point."""

    def bytes(self, rank: int | None = None) -> int:
        """Of the first rows, as they are stored."""
        rows = self.count if rank is None else rank
        held = [*self.parameters(), *self.buffers()]
        return rows * sum(t[:1].numel() * t.itemsize for t in held)


def as_rows(matrix: Float[Tensor, "r k"] | Rows) -> Rows:
    """A tensor as :class:`FloatRows`; rows stay that very object, to be shared."""
    return matrix if isinstance(matrix, Rows) else FloatRows(matrix)


class FloatRows(Rows):
    """Rows in floating point.

    Args:
        values: ``(count, width)``.
    """

    def __init__(self, values: Float[Tensor, "r k"]) -> None:
        super().__init__(*values.shape)
        # A view would keep what it is a view of, as a prefix of full-rank factors would.
        alone = values.is_meta or values.untyped_storage().nbytes() == values.nbytes
        self.values = nn.Parameter(values if alone else values.clone(), requires_grad=False)

    def products(
        self,
        x: Float[Tensor, "*batch k"],
        rank: int | None = None,
        plus: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*batch q"]:
        """See :class:`Rows`."""
        if plus is not None and plus.ndim == 2:
            return torch.addmm(plus, x, self.values[:rank].T)
        return nn.functional.linear(x, self.values[:rank], plus)

    def combine(
        self,
        x: Float[Tensor, "*batch q"],
        rank: int | None = None,
        plus: Float[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*batch k"]:
        """See :class:`Rows`."""
        return nn.functional.linear(x, self.values[:rank].T, plus)

    def dense(self) -> Float[Tensor, "r k"]:
        """The values."""
        return self.values


class Int8Rows(Rows):
    """Rows of 8-bit integers with one scale each: ``scales[i] * integers[i]``.

    Rounding is symmetric, each row by its largest magnitude; a product is taken with the integers
    in the input's dtype and then scaled, so nothing but the rows is rounded.

    Args:
        values: ``(count, width)``, any float dtype; the scales are float32.

    Source: FLRC (arXiv 2510.09332), appendix J, uses int8 and does not say how.
    """

    scales: Tensor

    def __init__(self, values: Float[Tensor, "r k"]) -> None:
        super().__init__(*values.shape)
        values = values.detach().float()
        largest = values.abs().amax(1) if self.width else values.new_zeros(self.count)
        scales = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
        integers = (values / scales[:, None]).round().to(torch.int8)
        self.integers = nn.Parameter(integers, requires_grad=False)
        self.register_buffer("scales", scales)

    def products(
        self,
        x: Float[Tensor, "*batch k"],
        rank: int | None = None,
        plus: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*batch q"]:
        """See :class:`Rows`."""
        product = nn.functional.linear(x, self.integers[:rank].to(x.dtype))
        product = product * self.scales[:rank].to(x.dtype)
        return product if plus is None else product + plus

    def combine(
        self,
        x: Float[Tensor, "*batch q"],
        rank: int | None = None,
        plus: Float[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*batch k"]:
        """See :class:`Rows`."""
        integers = self.integers[:rank].to(x.dtype)
        return nn.functional.linear(x * self.scales[:rank].to(x.dtype), integers.T, plus)

    def dense(self) -> Float[Tensor, "r k"]:
        """The rounded values, float32."""
        return self.integers.float() * self.scales[:, None]
