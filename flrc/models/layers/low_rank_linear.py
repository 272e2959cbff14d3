"""The low-rank layer and the surgery that puts it in place of ``nn.Linear``."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.rows import Rows, as_rows
from flrc.models.layers.shared_linear import SharedProduct


class LowRankLinear(FactoredLinear):
    """``y = left^T (right x) + bias`` at an active rank that can change between calls.

    Both factors are rank-major, so the first ``k`` ranks are one contiguous block of each and a
    change of rank is a change of view: nothing is copied.

    Args:
        left_t: ``(r, d_out)``.
        right: ``(r, d_in)``; in a group one object that all its layers are given.
        bias: ``(d_out,)`` or None; stays on the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only where some phase of a schedule keeps this layer dense.
        shared: Held by all layers of a group; None for a layer by itself.
    """

    def __init__(
        self,
        left_t: Float[Tensor, "r m"] | Rows,
        right: Float[Tensor, "r n"] | Rows,
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | Rows | None = None,
        shared: SharedProduct | None = None,
    ) -> None:
        left, inner = as_rows(left_t), as_rows(right)
        if left.count != inner.count:
            raise ValueError(f"factors of {left.count} and {inner.count} ranks")
        super().__init__(left.width, inner.width, inner.count, bias, weight, shared)
        self.left_t, self.right = left, inner

    def check_rank(self, rank: int) -> None:
        """Any rank from 1 up to the ranks held; 0 where none is."""
        if not min(1, self.right.count) <= rank <= self.right.count:
            raise ValueError(f"rank {rank} is outside 1..{self.right.count}")

    @property
    def input_rows(self) -> Rows:
        """The right factor."""
        return self.right

    @property
    def input_parameters(self) -> int:
        """``rank * d_in``."""
        return (self._rank or 0) * self.in_features

    @property
    def output_parameters(self) -> int:
        """``rank * d_out``."""
        return (self._rank or 0) * self.out_features

    def project(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch k"]:
        """``right x`` at the active rank."""
        return self.right.products(x, self._rank)

    def expand(self, hidden: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch m"]:
        """``left^T hidden + bias``."""
        return self.left_t.combine(hidden, self._rank, self.bias)


def low_rank_layers(model: nn.Module) -> dict[str, FactoredLinear]:
    """All factored layers of a model, of any form, by full name; not those inside another."""
    found: dict[str, FactoredLinear] = {}
    last = ""
    for name, module in model.named_modules():  # a module comes right before what it holds
        if isinstance(module, FactoredLinear) and not (last and name.startswith(f"{last}.")):
            found[name] = module
            last = name
    return found


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` at ``name``; the layer that stood there is dropped."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def dense_parameters(layer: nn.Module) -> int:
    """Weights of a dense layer, whatever their precision."""
    return sum(p.numel() for name, p in layer.named_parameters() if name != "bias")


def target_parameters(model: nn.Module, names: list[str]) -> tuple[int, int]:
    """Counted on the modules: weights of the named layers that are (active now, stored).

    What several layers share is counted once, biases and integer indices not at all.
    """
    active = 0
    stored: dict[int, int] = {}
    projected: set[int] = set()
    for name in names:
        layer = model.get_submodule(name)
        stored |= {id(p): p.numel() for n, p in layer.named_parameters() if n != "bias"}
        if not isinstance(layer, FactoredLinear):
            active += dense_parameters(layer)
            continue
        active += layer.active_parameters
        if layer.rank is not None:
            # By the tensors themselves: sharing is counted where it is, not where it was planned.
            shared = id(layer.input_rows)
            active -= layer.input_parameters if shared in projected else 0
            projected.add(shared)
    return active, sum(stored.values())
