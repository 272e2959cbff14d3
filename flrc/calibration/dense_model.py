"""The dense model of a run, and the sequences that it is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.plans.target import Target


@dataclass(frozen=True)
class DenseModel:
    """What statistics, scores, refinements and searches work on.

    Attributes:
        model: In evaluation mode, on its device. Whoever changes it to measure something restores
            it; surgery, at the end, compresses it in place.
        targets: Layers, or groups of layers, in the order of the forward pass.
        sequences: Calibration token ids ``(tokens,)``; empty if nothing is calibrated.
        seed: Of everything that is drawn.
    """

    model: PreTrainedModel
    targets: Sequence[Target]
    sequences: Sequence[Tensor] = ()
    seed: int = 0
