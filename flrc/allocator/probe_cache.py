"""The probes of one run, made when an allocator asks for them, and their total cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flrc.allocator.probe import Probe
from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import Entry
from flrc.models.anatomy.replaced_forwards import Factors


@dataclass
class ProbeCache:
    """Makes one :class:`~flrc.allocator.probe.Probe` for each number of sequences.

    Answers are cached by the factors they were measured with, so other rates and allocators, and a
    run that was interrupted, measure nothing twice.
    """

    dense: DenseModel
    factors: Callable[[str, int], Factors]
    entry: Entry
    _probes: dict[int, Probe] = field(default_factory=dict, init=False)

    def __call__(self, samples: int | None) -> Probe:
        """The probe on the first ``samples`` sequences; on all if None or if there are fewer."""
        dense, chosen = self.dense, self.dense.sequences[:samples]
        if len(chosen) not in self._probes:
            probe = Probe(dense.model, dense.targets, self.factors, chosen, self.entry)
            self._probes[len(chosen)] = probe
        return self._probes[len(chosen)]

    def cost(self) -> dict[str, Any]:
        """What measuring cost beyond calibration and decomposition, for the record.

        ``forward_passes`` is the compute as a multiple of one dense forward pass over all
        calibration tokens, including what the cache answered; ``forward_passes_now`` is what this
        run had to do.
        """
        tokens = sum(len(sequence) for sequence in self.dense.sequences)
        probes = self._probes.values()
        return {
            "probes": sum(p.total.probes for p in probes),
            "seconds": sum(p.total.seconds for p in probes),
            "forward_passes": sum(p.forwards(p.total, tokens) for p in probes),
            "forward_passes_now": sum(p.forwards(p.cost, tokens) for p in probes),
        }
