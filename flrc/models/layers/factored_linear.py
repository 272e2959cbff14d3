"""The base class of the layers that replace ``nn.Linear`` (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from flrc.models.layers.rows import Rows, as_rows
from flrc.models.layers.shared_product import SharedProduct


class FactoredLinear(nn.Module, ABC):
    """``y = expand(project(x)) + bias`` with a narrow product in between, or the dense layer.

    The layers of a group share the same tensors on the input side, and their product with the
    common input is computed once (``SharedProduct``).

    Args:
        d_out: Width of the output.
        d_in: Width of the input.
        rank: Number of stored ranks, all active at first.
        bias: ``(d_out,)`` or None; added to the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only if some phase of a schedule uses this layer dense.
        shared: The same object in all layers of a group; None for a single layer.
    """

    def __init__(
        self,
        d_out: int,
        d_in: int,
        rank: int,
        bias: Tensor | None,
        weight: Tensor | Rows | None,
        shared: SharedProduct | None,
    ) -> None:
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.weight = None if weight is None else as_rows(weight)
        self.in_features, self.out_features = d_in, d_out
        self.target: str | None = None
        """Name of the target whose rank this layer uses; None if it is the layer's own name."""
        self.shared = shared
        self._rank: int | None = rank

    @abstractmethod
    def check_rank(self, rank: int) -> None:
        """Raise ValueError if this layer cannot run at ``rank``."""

    @property
    @abstractmethod
    def input_rows(self) -> Rows:
        """The matrix that :meth:`project` reads; the same object in all layers of a group."""

    index_bytes: int = 0
    """Bytes of the integers that :meth:`project` reads beside its rows."""

    left_t: Rows
    """``(r, d_out)``: the matrix that :meth:`expand` reads."""

    @property
    def input_parameters(self) -> int:
        """Weights that :meth:`project` reads at the active rank; once for a whole group."""
        return self._rank * self.input_rows.width if self._rank else 0

    @property
    def output_parameters(self) -> int:
        """Weights that :meth:`expand` reads at the active rank (the bias is not counted)."""
        return self._rank * self.left_t.width if self._rank else 0

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """``(..., d_in)`` to ``(..., rank)``: the product that a group shares."""

    @abstractmethod
    def expand(self, hidden: Tensor) -> Tensor:
        """``(..., rank)`` to ``(..., d_out)``, bias included."""

    def matrices(self) -> list[tuple[Rows, Callable[[], int]]]:
        """All matrices that the layer may read, in order of use, and how many rows it reads now."""
        dense = self.dense_matrix()
        factors = [rows for rows in (self.input_rows, self.left_t) if rows.count]
        return [*dense, *((rows, lambda: self._rank or 0) for rows in factors)]

    def dense_matrix(self) -> list[tuple[Rows, Callable[[], int]]]:
        """The dense weight, if it is stored, and how many of its rows the layer reads now."""
        weight = self.weight
        if weight is None:
            return []
        return [(weight, lambda: self.out_features if self._rank is None else 0)]

    @property
    def rank(self) -> int | None:
        """Active rank; None while the layer is used dense."""
        return self._rank

    @rank.setter
    def rank(self, rank: int | None) -> None:
        self.check(rank)
        self._rank = rank

    def check(self, rank: int | None) -> None:
        """Raise ValueError if this layer cannot run at ``rank``, or dense if that is None."""
        if rank is not None:
            self.check_rank(rank)
        elif self.weight is None:
            raise ValueError("this layer does not store its dense weight")

    @property
    def active_parameters(self) -> int:
        """Weights that one forward call reads now (the bias is not counted).

        Shared weights are counted in each layer of a group; see
        :func:`~flrc.models.layers.sizes.target_parameters`.
        """
        if self._rank is None:
            return self.in_features * self.out_features
        return self.input_parameters + self.output_parameters

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output at the active rank, ``(..., d_out)``."""
        if self._rank is None:
            assert self.weight is not None
            return self.weight.products(x, plus=self.bias)
        if self._rank == 0:
            zeros = x.new_zeros(*x.shape[:-1], self.out_features)
            return zeros if self.bias is None else zeros + self.bias
        return self.expand(self.project(x) if self.shared is None else self.shared(self, x))

    def extra_repr(self) -> str:
        """Widths and rank, in the format of ``nn.Linear``."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rank={self._rank}"
        )
