"""The matrices that factored layers are made of, stored row by row.

Part of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Stream(ABC):
    """Brings the rows of a matrix that is not held in memory."""

    @abstractmethod
    def use(self, rank: int | None, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """``compute`` of the first rows, which are there only until it returns."""


class Rows(nn.Module, ABC):
    """A matrix ``(count, width)`` whose first rows can be used alone, without a copy.

    Layers that share a matrix hold the very same object.

    Args:
        held: ``(count, width)``: what is stored for each row, one number an entry.
    """

    def __init__(self, held: Tensor) -> None:
        super().__init__()
        self.count, self.width = held.shape
        # A view would keep what it is a view of, as a prefix of full-rank factors would.
        alone = held.is_meta or held.untyped_storage().nbytes() == held.nbytes
        owned = held if alone else held.clone()
        self.values: nn.Parameter | None = nn.Parameter(owned, requires_grad=False)
        self.stream: Stream | None = None
        """Where rows come from once they are no longer held."""
        self.row_bytes = self.width * held.itemsize
        self.fixed_bytes = 0

    def extra_repr(self) -> str:
        """Size."""
        return f"count={self.count}, width={self.width}"

    def bytes(self, rank: int | None = None) -> int:
        """Of the first rows, as they are stored, and of what any number of rows needs."""
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
            plus: Added before the result is rounded: one number a row, or ``(tokens, rank)``.
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
        """Sum of the first rows, each times its entry of ``x``, ``(..., rank)``; and ``plus``."""
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
    """A tensor as :class:`FloatRows`; rows stay that very object, to be shared."""
    return matrix if isinstance(matrix, Rows) else FloatRows(matrix)


class FloatRows(Rows):
    """Rows in floating point.

    Args:
        held: ``(count, width)``.
    """

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
