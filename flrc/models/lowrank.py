"""The low-rank layer and the surgery that puts it in place of ``nn.Linear``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flrc.models.factored import FactoredLinear, as_parameter
from flrc.models.shared import SharedProduct


class LowRankLinear(FactoredLinear):
    """``y = left^T (right x) + bias`` at an active rank that can change between calls.

    Both factors are rank-major, so the first ``k`` ranks are one contiguous block of each and a
    change of rank is a change of view: nothing is copied.

    Args:
        left_t: ``(r, d_out)``.
        right: ``(r, d_in)``; in a group one parameter that all its layers are given.
        bias: ``(d_out,)`` or None; stays on the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only where some phase of a schedule keeps this layer dense.
        shared: Held by all layers of a group; None for a layer by itself.
    """

    def __init__(
        self,
        left_t: Float[Tensor, "r m"],
        right: Float[Tensor, "r n"],
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | None = None,
        shared: SharedProduct | None = None,
    ) -> None:
        super().__init__(left_t.shape[1], right.shape[1], right.shape[0], bias, weight, shared)
        self.left_t = as_parameter(left_t)
        self.right = as_parameter(right)

    def check_rank(self, rank: int) -> None:
        """Any rank up to the ranks held."""
        if not 1 <= rank <= self.right.shape[0]:
            raise ValueError(f"rank {rank} is outside 1..{self.right.shape[0]}")

    @property
    def input_tensors(self) -> tuple[nn.Parameter, ...]:
        """The right factor."""
        return (self.right,)

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
        return nn.functional.linear(x, self.right[: self._rank])

    def expand(self, hidden: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch m"]:
        """``left^T hidden + bias``."""
        output = hidden @ self.left_t[: self._rank]
        return output if self.bias is None else output + self.bias


def low_rank_layers(model: nn.Module) -> dict[str, FactoredLinear]:
    """All factored layers of a model, of any form, by full name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, FactoredLinear)}


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` at ``name``; the layer that stood there is dropped."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def target_parameters(model: nn.Module, names: list[str]) -> tuple[int, int]:
    """Counted on the modules: weights of the named layers that are (active now, stored).

    What several layers share is counted once, biases and integer indices not at all.
    """
    active = 0
    stored: dict[int, int] = {}
    projected: set[tuple[int, ...]] = set()
    for name in names:
        layer = model.get_submodule(name)
        stored |= {id(p): p.numel() for n, p in layer.named_parameters() if n != "bias"}
        if not isinstance(layer, FactoredLinear):
            weight = layer.weight
            assert isinstance(weight, torch.Tensor)
            active += weight.numel()
            continue
        active += layer.active_parameters
        if layer.rank is not None:
            # By the tensors themselves: sharing is counted where it is, not where it was planned.
            shared = tuple(id(tensor) for tensor in layer.input_tensors)
            active -= layer.input_parameters if shared in projected else 0
            projected.add(shared)
    return active, sum(stored.values())
