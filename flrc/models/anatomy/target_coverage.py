"""How much of a model's decoder blocks the targets hold: what else multiplies stays as it is."""

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
"""Share of the blocks' matrices that may be left as they are without being asked: routers, small
projections, states."""


@dataclass(frozen=True)
class Coverage:
    """The matrix parameters of the decoder blocks; what several modules share counts once.

    Attributes:
        matrices: How many there are.
        uncovered: How many of them are in no target.
        example: Name and shape of the largest matrix in no target; empty where there is none.
    """

    matrices: int
    uncovered: int
    example: str = ""

    @property
    def share(self) -> float:
        """``uncovered / matrices``."""
        return self.uncovered / self.matrices

    def to_json(self) -> dict[str, int]:
        """What a record says; nothing where everything is covered."""
        if not self.uncovered:
            return {}
        return {"blocks_matrices": self.matrices, "blocks_uncovered": self.uncovered}


def coverage(model: nn.Module, targets: Sequence[Target]) -> Coverage:
    """What the targets cover of all lists of modules that the forward pass runs.

    Args:
        model: Dense; its weights are not read (it may be on the meta device).
        targets: Its layers, or groups of them.
    """
    matrices = {
        parameter: f"{prefix}.{name}"
        for prefix in lists_run(model)
        for name, parameter in model.get_submodule(prefix).named_parameters()
        if _is_matrix(parameter)
    }
    covered = {f"{layer.name}.weight" for target in targets for layer in target.layers}
    left = {parameter: name for parameter, name in matrices.items() if name not in covered}
    largest = max(left, key=Tensor.numel, default=None)
    return Coverage(
        sum(parameter.numel() for parameter in matrices),
        sum(parameter.numel() for parameter in left),
        "" if largest is None else f"{left[largest]} {tuple(largest.shape)}",
    )


def _is_matrix(parameter: Tensor) -> bool:
    """Whether it is a matrix or a stack of them: norms, biases, depthwise kernels are vectors."""
    return parameter.ndim >= 2 and min(parameter.shape[-2:]) > 1


def check_coverage(model: nn.Module, targets: Sequence[Target], rate: float, partial: bool) -> None:
    """Say what the targets leave out of the decoder blocks.

    Args:
        model: Dense, perhaps without weights.
        targets: What is compressed of it.
        rate: Share of the targets that is removed.
        partial: Whether the user knows that much is left out.

    Raises:
        UserError: If it is more than :data:`TOLERATED`, and not ``partial``.
    """
    found = coverage(model, targets)
    if not found.uncovered:
        return
    removed = f"rate={rate:g} removes {rate * (1 - found.share):.1%} of the blocks"
    if found.share > TOLERATED and not partial:
        raise UserError(
            f"{found.share:.0%} of the decoder blocks' matrix parameters would not be compressed",
            given=f"{type(model).__name__}: {found.uncovered:,} of {found.matrices:,} lie outside "
            f"of the layers that can be, such as {found.example}; {removed}",
            allowed=f"up to {TOLERATED:.0%} outside of torch.nn.Linear layers in one list",
            fix="model.partial=true compresses the others alone, and rate counts only these; "
            'in Python overrides=["model.partial=true"]',
        )
    log.warning(
        "%s of %s matrix parameters of the decoder blocks (%.1f %%) are in no target, such as %s: "
        "%s", f"{found.uncovered:,}", f"{found.matrices:,}", 100 * found.share, found.example,
        removed,
    )  # fmt: skip
