"""The matrices of factored layers, stored row by row (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Stream(ABC):
    """Loads the rows of a matrix that is not kept in memory."""

    @abstractmethod
    def use(self, rank: int | None, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``compute`` to the first rows, which are valid only until it returns."""


class Rows(nn.Module, ABC):
    """A matrix ``(count, width)`` whose first rows can be used without a copy.

    Layers that share a matrix share this object.

    Args:
        values: ``(count, width)``, as stored.
    """

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.count, self.width = values.shape
        # A view, such as a prefix of full-rank factors, would keep the whole tensor alive.
        whole = values.is_meta or values.untyped_storage().nbytes() == values.nbytes
        owned = values if whole else values.clone()
        self.values: nn.Parameter | None = nn.Parameter(owned, requires_grad=False)
        self.stream: Stream | None = None
        """The source of the rows once ``values`` is None."""
        self.row_bytes = self.width * values.itemsize
        self.fixed_bytes = 0

    def extra_repr(self) -> str:
        """Number and width of the rows."""
        return f"count={self.count}, width={self.width}"

    def bytes(self, rank: int | None = None) -> int:
        """Stored bytes of the first rows, including those that any number of rows needs."""
        return (self.count if rank is None else rank) * self.row_bytes + self.fixed_bytes

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
            plus: Added before the result is rounded: one number per row, or ``(tokens, rank)``.
        """
        if self.stream is not None:
            return self.stream.use(rank, lambda values: self._products(values, x, plus))
        assert self.values is not None
        return self._products(self.values[:rank], x, plus)

    def combine(
        self,
        x: Float[Tensor, "*batch q"],
        rank: int | None = None,
        plus: Float[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "*batch k"]:
        """Sum of the first rows weighted by the entries of ``x``, ``(..., rank)``, and ``plus``."""
        if self.stream is not None:
            return self.stream.use(rank, lambda values: self._combine(values, x, plus))
        assert self.values is not None
        return self._combine(self.values[:rank], x, plus)

    @abstractmethod
    def _products(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        """:meth:`products` with the first rows as they are stored."""

    @abstractmethod
    def _combine(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        """:meth:`combine` with the first rows as they are stored."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "r k"]:
        """The whole matrix, in floating point."""


def as_rows(matrix: Float[Tensor, "r k"] | Rows) -> Rows:
    """A tensor as :class:`FloatRows`; existing rows are returned unchanged, to be shared."""
    return matrix if isinstance(matrix, Rows) else FloatRows(matrix)


class FloatRows(Rows):
    """Rows in floating point."""

    def _products(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        if plus is not None and plus.ndim == 2:
            return torch.addmm(plus, x, values.T)
        return nn.functional.linear(x, values, plus)

    def _combine(self, values: Tensor, x: Tensor, plus: Tensor | None) -> Tensor:
        return nn.functional.linear(x, values.T, plus)

    def dense(self) -> Float[Tensor, "r k"]:
        """The values."""
        assert self.values is not None
        return self.values
