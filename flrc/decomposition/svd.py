"""Plain truncated SVD of the weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.decomposition.base import Decomposition

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.calibration.statistics import InputStatistics, OutputStatistics
    from flrc.decomposition.factors import Factors


@dataclass
class Svd(Decomposition):
    """Minimises ``||W - W'||_F``; blind to the activations (Eckart and Young, 1936)."""

    name: str = "svd"

    CALIBRATED: ClassVar[bool] = False

    def decompose(
        self,
        weight: Tensor,
        inputs: InputStatistics | None,
        outputs: OutputStatistics | None = None,
    ) -> Factors:
        """``W = U Sigma V^T``, truncated."""
        from flrc.decomposition.truncation import truncated

        return truncated(weight)
