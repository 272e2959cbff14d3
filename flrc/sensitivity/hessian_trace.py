"""PrunerGPT's score: the mean Hessian trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.calibration.dense_model import DenseModel
from flrc.core.demand import Demand
from flrc.sensitivity.base import Gradients, Sensitivity

if TYPE_CHECKING:
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class HessianTrace(Sensitivity):
    """``|Tr(H)| / entries``, with ``H`` the Hessian of the model's mean token loss over a weight.

    Hutchinson's estimator: ``z^T H z`` averaged over random signs ``z``, each by a backward pass
    through a backward pass, for all weights at once. A group's score is the mean of its members'
    scores, weighted by their entries.

    Source: Shao et al., "One-Shot Sensitivity-Aware Mixed Sparsity Pruning" (arXiv 2310.09499),
        called PrunerGPT by FLRC.
    Differs: the paper draws ``z`` from a normal distribution, its code draws signs, as here: they
        have the smaller variance. Directions are redrawn for every sequence, so few draws suffice.

    Attributes:
        draws: Random directions per sequence.
        samples: Number of calibration sequences used, from the first; None for all.
    """

    name: str = "hessian_trace"
    draws: int = 1
    samples: int | None = None

    def check(self) -> None:
        """Checks the numbers of draws and sequences."""
        self.require(self.draws >= 1, "draws", "an integer of at least 1")
        enough = self.samples is None or self.samples >= 1
        self.require(enough, "samples", "an integer of at least 1, or null for all")

    def demand(self, shape: ModelShape, lengths: Sequence[int], fits: bool) -> Demand:
        """A backward pass with a graph, and one through it for each draw; nothing is recomputed.

        The pass through the graph goes over the forward and the backward pass once more.
        """
        chosen = lengths[: self.samples]
        once = shape.forward(chosen) + shape.backward(chosen, of_weights=True, recomputed=False)
        graph = 2 * shape.graph_bytes(0, max(chosen, default=0))
        dense = sum(target.dense for target in shape.targets)
        return (once * (1 + self.draws)).holding(graph + 3 * dense * shape.itemsize)

    def score(self, dense: DenseModel, gradients: Gradients) -> dict[str, float]:
        """Mean Hessian trace by target."""
        from flrc.calibration.hessian import hessian_traces

        sequences = dense.sequences[: self.samples]
        traces = hessian_traces(dense.model, dense.targets, sequences, self.draws, dense.seed)
        return {
            target.name: sum(abs(traces[layer.name]) for layer in target.layers) / target.dense
            for target in dense.targets
        }
