"""The share of a model's decoder blocks that the targets cover; the rest is not compressed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.anatomy.blocks import lists_run

if TYPE_CHECKING:
    from flrc.plans.target import Target

log = logging.getLogger(__name__)

TOLERATED = 0.03
"""Share of the blocks' matrix parameters that may be uncovered without ``model.partial``: routers,
small projections, states."""


@dataclass(frozen=True)
class Coverage:
    """The matrix parameters of the decoder blocks; shared ones count once."""

    matrices: int
    uncovered: int
    example: str = ""
    """Name and shape of the largest uncovered matrix; empty if there is none."""

    @property
    def share(self) -> float:
        """``uncovered / matrices``."""
        return self.uncovered / self.matrices

    def to_json(self) -> dict[str, int]:
        """The entries of a record; empty if everything is covered."""
        if not self.uncovered:
            return {}
        return {"blocks_matrices": self.matrices, "blocks_uncovered": self.uncovered}


def coverage(model: nn.Module, targets: Sequence[Target]) -> Coverage:
    """What the targets cover of all module lists that the forward pass runs; reads no weights."""
    matrices = {
        parameter: f"{prefix}.{name}"
        for prefix in lists_run(model)
        for name, parameter in model.get_submodule(prefix).named_parameters()
        # A matrix or a stack of them; norms, biases and depthwise kernels are not.
        if parameter.ndim >= 2 and min(parameter.shape[-2:]) > 1
    }
    covered = {f"{layer.name}.weight" for target in targets for layer in target.layers}
    left = {parameter: name for parameter, name in matrices.items() if name not in covered}
    largest = max(left, key=Tensor.numel, default=None)
    return Coverage(
        sum(parameter.numel() for parameter in matrices),
        sum(parameter.numel() for parameter in left),
        "" if largest is None else f"{left[largest]} {tuple(largest.shape)}",
    )


def check_coverage(model: nn.Module, targets: Sequence[Target], rate: float, partial: bool) -> None:
    """Warn of what the targets leave out of the decoder blocks.

    Raises:
        UserError: If it is more than :data:`TOLERATED`, and not ``partial``.
    """
    covered = coverage(model, targets)
    if not covered.uncovered:
        return
    removed = f"rate={rate:g} removes {rate * (1 - covered.share):.1%} of the blocks"
    if covered.share > TOLERATED and not partial:
        raise UserError(
            f"{covered.share:.0%} of the decoder blocks' matrix parameters would not be compressed",
            given=f"{type(model).__name__}: {covered.uncovered:,} of {covered.matrices:,} are not "
            f"in a layer that can be compressed, such as {covered.example}; {removed}",
            allowed=f"up to {TOLERATED:.0%} outside of torch.nn.Linear layers in one list",
            fix="model.partial=true compresses only the others, and rate counts only these; "
            'in Python overrides=["model.partial=true"]',
        )
    log.warning(
        "%s of %s matrix parameters of the decoder blocks (%.1f %%) are in no target, such as %s: "
        "%s", f"{covered.uncovered:,}", f"{covered.matrices:,}", 100 * covered.share,
        covered.example, removed,
    )  # fmt: skip
