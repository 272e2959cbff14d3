"""A target: what is decomposed and given a rank as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor, nn


@dataclass(frozen=True)
class Target:
    """A linear layer, or layers that share an input, decomposed and given a rank as one.

    Layers that share their input (``grouping=shared``) are one target whose weight is theirs
    stacked along the outputs, and they share the right factor.

    Attributes:
        name: Full module name in the model; for a group the joined names of its layers.
        d_out: Rows of its (stacked) weight.
        d_in: Columns of its weight; ``d_out`` and ``d_in`` come from the weight, not from the
            model's config, so grouped-query attention and odd head widths need no special case.
        block: Index of its decoder block.
        projection: Last part of its name (``q_proj`` ... ``down_proj``).
        input_group: Name of the first target that reads the same input tensor: q, k and v are one
            group, gate and up another. Calibration collects statistics once per group.
        members: The layers of a group, in the order in which their weights are stacked; empty for
            a single layer.
    """

    name: str
    d_out: int
    d_in: int
    block: int
    projection: str
    input_group: str
    members: tuple[Target, ...] = ()

    @classmethod
    def stacked(cls, members: Sequence[Target]) -> Target:
        """One target of layers that share an input; a single layer is returned unchanged."""
        first = members[0]
        if len(members) == 1:
            return first
        if len({(t.input_group, t.d_in) for t in members}) > 1:
            raise ValueError(f"{', '.join(t.name for t in members)} do not share an input")
        parent = first.name.rpartition(".")[0]
        joined = "+".join(t.projection for t in members)
        name = f"{parent}.{joined}" if parent else joined
        d_out = sum(t.d_out for t in members)
        return cls(name, d_out, first.d_in, first.block, joined, first.input_group, tuple(members))

    @property
    def layers(self) -> tuple[Target, ...]:
        """The linear layers themselves: the members of a group, or this one."""
        return self.members or (self,)

    def weight(self, model: nn.Module) -> Float[Tensor, "m n"]:
        """``(d_out, d_in)``: the dense weight, stacked for a group (a copy there)."""
        import torch

        weights = [model.get_submodule(layer.name).weight for layer in self.layers]
        tensors = [weight.data for weight in weights if isinstance(weight, torch.Tensor)]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    @property
    def dense(self) -> int:
        """Parameters of the dense weight (the bias is not compressed and not counted)."""
        return self.d_out * self.d_in
