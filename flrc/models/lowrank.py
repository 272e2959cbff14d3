"""The low-rank layer and the surgery that puts it in place of ``nn.Linear``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LowRankLinear(nn.Module):
    """``y = left^T (right x) + bias`` at an active rank that can change between calls.

    Both factors are rank-major, so the first ``k`` ranks are one contiguous block of each and a
    change of rank is a change of view: nothing is copied.

    Args:
        left_t: ``(r, d_out)``.
        right: ``(r, d_in)``.
        bias: ``(d_out,)`` or None; stays on the output, as in the dense layer.
        weight: ``(d_out, d_in)``, kept only where some phase of a schedule keeps this layer dense.
    """

    def __init__(
        self,
        left_t: Float[Tensor, "r m"],
        right: Float[Tensor, "r n"],
        bias: Float[Tensor, " m"] | None = None,
        weight: Float[Tensor, "m n"] | None = None,
    ) -> None:
        super().__init__()
        self.left_t = nn.Parameter(left_t, requires_grad=False)
        self.right = nn.Parameter(right, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.weight = None if weight is None else nn.Parameter(weight, requires_grad=False)
        self.in_features = right.shape[1]
        self.out_features = left_t.shape[1]
        self._rank: int | None = right.shape[0]

    @property
    def rank(self) -> int | None:
        """Active rank; None while the layer is used dense."""
        return self._rank

    @rank.setter
    def rank(self, rank: int | None) -> None:
        if rank is None:
            if self.weight is None:
                raise ValueError("this layer does not hold its dense weight")
        elif not 1 <= rank <= self.right.shape[0]:
            raise ValueError(f"rank {rank} is outside 1..{self.right.shape[0]}")
        self._rank = rank

    @property
    def active_parameters(self) -> int:
        """Weights that one forward call reads now (the bias is not counted)."""
        if self._rank is None:
            assert self.weight is not None
            return self.weight.numel()
        return self._rank * (self.in_features + self.out_features)

    @property
    def stored_parameters(self) -> int:
        """Weights that the layer holds (the bias is not counted)."""
        dense = 0 if self.weight is None else self.weight.numel()
        return self.left_t.numel() + self.right.numel() + dense

    def forward(self, x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch m"]:
        """The layer's output at the active rank."""
        if self._rank is None:
            assert self.weight is not None
            return nn.functional.linear(x, self.weight, self.bias)
        hidden = nn.functional.linear(x, self.right[: self._rank])
        output = hidden @ self.left_t[: self._rank]
        return output if self.bias is None else output + self.bias

    def extra_repr(self) -> str:
        """Widths and rank, as ``nn.Linear`` shows its widths."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rank={self._rank}"
        )


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLinear]:
    """All low-rank layers of a model by full name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LowRankLinear)}


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` at ``name``; the layer that stood there is dropped."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def target_parameters(model: nn.Module, names: list[str]) -> tuple[int, int]:
    """Counted on the modules: weights of the named layers that are (active now, stored)."""
    active = stored = 0
    for name in names:
        layer = model.get_submodule(name)
        if isinstance(layer, LowRankLinear):
            active += layer.active_parameters
            stored += layer.stored_parameters
        else:
            weight = layer.weight
            assert isinstance(weight, torch.Tensor)
            active += weight.numel()
            stored += weight.numel()
    return active, stored
