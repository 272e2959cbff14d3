"""The layer of forms that are built separately for every rank (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows


class SeparateLinear(FactoredLinear):
    """One factored layer for each rank that some phase uses; the active one computes.

    A pivoted layer of one rank is useless at another. To run a schedule, a layer for each of its
    ranks is stored: a switch still copies nothing, at the price of storage.

    Args:
        layers: By rank, without biases.
        bias: ``(d_out,)`` or None.
        weight: ``(d_out, d_in)``, kept only if some phase of a schedule uses this layer dense.
    """

    def __init__(
        self,
        layers: Mapping[int, FactoredLinear],
        bias: Tensor | None,
        weight: Tensor | Rows | None,
    ) -> None:
        first = next(iter(layers.values()))
        super().__init__(first.out_features, first.in_features, max(layers), bias, weight, None)
        self.layers = nn.ModuleDict({str(rank): layer for rank, layer in layers.items()})

    @property
    def active(self) -> FactoredLinear:
        """The layer of the active rank; undefined while dense."""
        layer = self.layers[str(self._rank)]
        assert isinstance(layer, FactoredLinear)
        return layer

    def check_rank(self, rank: int) -> None:
        """Only the ranks that were built."""
        if str(rank) not in self.layers:
            raise ValueError(f"rank {rank} is not one of {', '.join(self.layers)}")

    @property
    def input_rows(self) -> Rows:
        """The active layer's."""
        return self.active.input_rows

    @property
    def left_t(self) -> Rows:  # type: ignore[override]
        """The active layer's."""
        return self.active.left_t

    @property
    def index_bytes(self) -> int:  # type: ignore[override]
        """The active layer's."""
        return self.active.index_bytes

    def matrices(self) -> list[tuple[Rows, Callable[[], int]]]:
        """The matrices of every rank; only those of the active one are read."""
        matrices = self.dense_matrix()
        for layer in self.layers.values():
            assert isinstance(layer, FactoredLinear)
            matrices += [(rows, partial(self._used, layer)) for rows, _ in layer.matrices()]
        return matrices

    def _used(self, layer: FactoredLinear) -> int:
        return layer.rank or 0 if layer.rank == self._rank else 0

    def project(self, x: Tensor) -> Tensor:
        """The active layer's product, which a group shares."""
        active = self.active
        return active.project(x) if active.shared is None else active.shared(active, x)

    def expand(self, hidden: Tensor) -> Tensor:
        """``left^T hidden + bias``, rounded once as in a layer of one rank."""
        return self.left_t.combine(hidden, plus=self.bias)
