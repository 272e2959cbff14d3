"""The layer of forms that are built anew for every rank.

Part of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows


class SeparateLinear(FactoredLinear):
    """One factored layer for each rank that some phase asks for; the active one computes.

    What a pivoted layer stores at one rank is of no use at another. So that a schedule can be run,
    each of its ranks is stored: a switch still copies nothing, and the price is storage.

    Args:
        layers: By rank, without biases.
        bias: ``(d_out,)`` or None.
        weight: ``(d_out, d_in)``, kept only where some phase of a schedule keeps this layer dense.
    """

    def __init__(
        self,
        layers: Mapping[int, FactoredLinear],
        bias: Tensor | None,
        weight: Tensor | Rows | None,
    ) -> None:
        some = next(iter(layers.values()))
        super().__init__(some.out_features, some.in_features, max(layers), bias, weight, None)
        self.layers = nn.ModuleDict({str(rank): layer for rank, layer in layers.items()})

    @property
    def active(self) -> FactoredLinear:
        """The layer of the active rank; not while dense."""
        layer = self.layers[str(self._rank)]
        assert isinstance(layer, FactoredLinear)
        return layer

    def check_rank(self, rank: int) -> None:
        """Only the ranks that were built."""
        if str(rank) not in self.layers:
            raise ValueError(f"rank {rank} is none of {', '.join(self.layers)}")

    @property
    def input_rows(self) -> Rows:
        """Of the active layer."""
        return self.active.input_rows

    @property
    def left_t(self) -> Rows:  # type: ignore[override]
        """Of the active layer."""
        return self.active.left_t

    @property
    def index_bytes(self) -> int:  # type: ignore[override]
        """Of the active layer."""
        return self.active.index_bytes

    @property
    def input_parameters(self) -> int:
        """Of the active layer."""
        return 0 if self._rank is None else self.active.input_parameters

    @property
    def output_parameters(self) -> int:
        """Of the active layer."""
        return 0 if self._rank is None else self.active.output_parameters

    def matrices(self) -> list[tuple[Rows, Callable[[], int]]]:
        """Of every rank; only those of the active one are used."""
        found = self.dense_matrix()
        for layer in self.layers.values():
            assert isinstance(layer, FactoredLinear)
            found += [(rows, partial(self._used, layer)) for rows, _ in layer.matrices()]
        return found

    def _used(self, layer: FactoredLinear) -> int:
        return layer.rank or 0 if layer.rank == self._rank else 0

    def project(self, x: Tensor) -> Tensor:
        """Of the active layer, which a group shares."""
        return (
            self.active.project(x)
            if self.active.shared is None
            else self.active.shared(self.active, x)
        )

    def expand(self, hidden: Tensor) -> Tensor:
        """Of the active layer; and the bias."""
        output = self.active.expand(hidden)
        return output if self.bias is None else output + self.bias
