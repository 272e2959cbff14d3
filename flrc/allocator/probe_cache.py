"""The probes of one run, made when an allocator asks for them, and their total cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flrc.allocator.probe import Probe

if TYPE_CHECKING:
    from flrc.calibration.dense_model import DenseModel
    from flrc.core.cache import Entry
    from flrc.models.anatomy.replaced_forwards import Factors


class ProbeCache:
    """Makes one :class:`~flrc.allocator.probe.Probe` for each number of sequences.

    Answers are cached by the factors they were measured with, so other rates and allocators, and a
    run that was interrupted, measure nothing twice.

    Args:
        dense: The model, its targets and the calibration sequences.
        factors: ``(target name, rank) -> (left_t, right)``.
        entry: Where answers are cached.
    """

    def __init__(
        self, dense: DenseModel, factors: Callable[[str, int], Factors], entry: Entry
    ) -> None:
        self._dense = dense
        self._factors = factors
        self._entry = entry
        self._probes: dict[int, Probe] = {}

    def __call__(self, samples: int | None) -> Probe:
        """The probe on the first ``samples`` sequences; on all if None or if there are fewer."""
        model, targets, sequences = self._dense.model, self._dense.targets, self._dense.sequences
        count = len(sequences) if samples is None else min(samples, len(sequences))
        if count not in self._probes:
            chosen = sequences[:count]
            self._probes[count] = Probe(model, targets, self._factors, chosen, self._entry)
        return self._probes[count]

    def cost(self) -> dict[str, Any]:
        """What measuring cost beyond calibration and decomposition, for the record.

        ``forward_passes`` is the compute as a multiple of one dense forward pass over all
        calibration tokens, including what the cache answered; ``forward_passes_now`` is what this
        run had to do.
        """
        tokens = sum(len(sequence) for sequence in self._dense.sequences)
        probes = self._probes.values()
        return {
            "probes": sum(p.total.probes for p in probes),
            "seconds": sum(p.total.seconds for p in probes),
            "forward_passes": sum(p.forwards(p.total, tokens) for p in probes),
            "forward_passes_now": sum(p.forwards(p.cost, tokens) for p in probes),
        }
