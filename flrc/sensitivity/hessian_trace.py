"""PrunerGPT's score: the mean Hessian trace."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.sensitivity.base import ScoreContext, Sensitivity


@dataclass
class HessianTrace(Sensitivity):
    """``|Tr(H)| / entries``, with ``H`` the Hessian of the model's mean token loss over a weight.

    Estimated by Hutchinson: ``z^T H z`` averaged over random signs ``z``, one backward pass through
    a backward pass each, all weights at once. A group's score is the mean of its members', weighted
    by their entries.

    Source: Shao et al., "One-Shot Sensitivity-Aware Mixed Sparsity Pruning" (arXiv 2310.09499),
        called PrunerGPT by FLRC.
    Differs: the paper draws from a normal distribution, its code signs; signs have the smaller
        variance. New directions are drawn for every sequence, so few draws for each are enough.

    Attributes:
        draws: Random directions for each sequence.
        samples: Calibration sequences that are used, the first ones; None for all.
    """

    name: str = "hessian_trace"
    draws: int = 1
    samples: int | None = None

    def check(self) -> None:
        """Counts."""
        self.require(self.draws >= 1, "draws", "a whole number from 1 on")
        self.require(
            self.samples is None or self.samples >= 1,
            "samples",
            "a whole number from 1 on, or null for all",
        )

    def score(self, context: ScoreContext) -> dict[str, float]:
        """Mean Hessian trace by target."""
        from flrc.calibration.hessian import hessian_traces

        sequences = context.sequences[: self.samples]
        traces = hessian_traces(context.model, context.targets, sequences, self.draws, context.seed)
        return {
            target.name: sum(abs(traces[layer.name]) for layer in target.layers) / target.dense
            for target in context.targets
        }
