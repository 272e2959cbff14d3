"""The probes of one run: made when an allocator asks for them, and what they cost together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flrc.allocator.probe import Probe

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from flrc.core.cache import StageCache
    from flrc.decomposition.factor_store import StoredFactors
    from flrc.plans.target import Target


class Probes:
    """Makes a :class:`~flrc.allocator.probe.Probe` a number of sequences, and keeps it.

    Answers are cached by the factors they were measured with, so other rates and allocators, and a
    run that was interrupted, ask nothing twice.

    Args:
        model: The dense model.
        targets: What can be cut.
        factors: Full-rank factors of the targets.
        sequences: Calibration sequences.
        cache: Where answers are kept.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        targets: Sequence[Target],
        factors: StoredFactors,
        sequences: Sequence[Tensor],
        cache: StageCache,
    ) -> None:
        self.model = model
        self.targets = targets
        self.factors = factors
        self.sequences = sequences
        self.cache = cache
        self._made: dict[int, Probe] = {}

    def __call__(self, samples: int | None) -> Probe:
        """The probe on the first ``samples`` sequences; all if None, or if there are fewer."""
        count = len(self.sequences) if samples is None else min(samples, len(self.sequences))
        if count not in self._made:
            entry = self.cache.entry("probes", self.factors.entry.inputs)
            chosen = self.sequences[:count]
            self._made[count] = Probe(self.model, self.targets, self.factors.factors, chosen, entry)
        return self._made[count]

    def cost(self) -> dict[str, Any]:
        """What the search measured beyond calibration and decomposition, for the record.

        ``forward_passes`` is the compute as a multiple of one dense forward pass over all
        calibration tokens, what the cache answered included; ``forward_passes_now`` is what this
        run had to do.
        """
        tokens = sum(len(sequence) for sequence in self.sequences)
        probes = self._made.values()
        return {
            "probes": sum(p.total.probes for p in probes),
            "seconds": sum(p.total.seconds for p in probes),
            "forward_passes": sum(p.forwards(p.total, tokens) for p in probes),
            "forward_passes_now": sum(p.forwards(p.cost, tokens) for p in probes),
        }
