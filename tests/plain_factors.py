"""Plain SVD factors of a model's targets, including groups: for tests of layers with factors."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from flrc.decomposition.svd import Svd
from flrc.plans.target import Target


def stacked_factors(
    model: nn.Module, targets: list[Target]
) -> Callable[[str, int], tuple[Tensor, Tensor]]:
    """``(target name, rank) -> (left_t, right)`` of the weights as they are now."""
    weights = {target.name: target.weight(model).clone() for target in targets}

    def factors(name: str, rank: int) -> tuple[Tensor, Tensor]:
        found = Svd().decompose(weights[name], None)
        return found.left_t[:rank], found.right[:rank]

    return factors
