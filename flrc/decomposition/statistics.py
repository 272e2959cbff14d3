"""The statistics that a decomposition reads, block by block: from the cache, or measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import Any

from flrc.calibration.activation_checkpointing import graph_fits
from flrc.calibration.dense_model import DenseModel
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_statistics import joint_statistics, output_statistics
from flrc.calibration.statistics import BlockStatistics, InputStatistics, OutputStatistics
from flrc.calibration.statistics_store import input_bytes, output_bytes, stored
from flrc.core.cache import Entry
from flrc.decomposition.base import Decomposition


def _not_profiled(_name: str, items: Iterable[Any]) -> Iterable[Any]:
    return items


@dataclass(frozen=True)
class Statistics:
    """A decomposition, and the statistics of the dense model that it reads.

    Attributes:
        inputs: Cache entry of the input statistics; None if they are not read, or too large.
        outputs: Cache entry of the output gradients' statistics; None likewise.
        memory: Bytes of output Grams that may be held at a time; more takes several passes.
    """

    decomposition: Decomposition
    dense: DenseModel
    inputs: Entry | None = None
    outputs: Entry | None = None
    memory: float = 8e9

    def blocks(
        self, profiled: Callable[[str, Iterable[Any]], Iterable[Any]] = _not_profiled
    ) -> Iterator[BlockStatistics]:
        """The statistics of each block; empty where the decomposition reads none.

        The caller holds the cache entries. Inputs and outputs that are both read, both unknown and
        fit into memory together come from one pass, which counts as ``output gradients``.

        Args:
            profiled: Yields items and notes the time and memory that making them takes, as stage
                ``statistics`` or ``output gradients``.

        Yields:
            The statistics of one block, emptied when those of the next are asked for.
        """
        model, targets, sequences = self.dense.model, self.dense.targets, self.dense.sequences
        calibrated, two_sided = self.decomposition.CALIBRATED, self.decomposition.TWO_SIDED
        settings, seed, memory = self.decomposition.gradients(), self.dense.seed, self.memory
        indices = sorted({target.block for target in targets})
        inputs: Iterable[tuple[int, dict[str, InputStatistics]]] = ((i, {}) for i in indices)
        outputs: Iterable[tuple[int, dict[str, OutputStatistics]]] = ((i, {}) for i in indices)
        collect_inputs, collect_outputs = (
            lambda: input_statistics(model, targets, sequences),
            lambda: output_statistics(model, targets, sequences, settings, memory, seed),
        )
        if (
            calibrated
            and two_sided
            and not any(entry is not None and entry.done for entry in (self.inputs, self.outputs))
            and input_bytes(targets) + output_bytes(targets) <= memory
            and graph_fits(model, targets, sequences, memory)
        ):
            first, second = tee(joint_statistics(model, targets, sequences, settings, seed))
            collect_inputs, collect_outputs = (
                lambda: ((both.block, both.inputs) for both in first),
                lambda: ((both.block, both.outputs) for both in second),
            )
        if calibrated:
            names = dict.fromkeys((target.block, target.input_group) for target in targets)
            inputs = stored(InputStatistics, collect_inputs, names, self.inputs)
            inputs = profiled("statistics", inputs)
        if two_sided:
            names = dict.fromkeys((target.block, target.name) for target in targets)
            outputs = stored(OutputStatistics, collect_outputs, names, self.outputs)
            outputs = profiled("output gradients", outputs)
        # Outputs first: their pass runs over the whole model before the inputs' begins.
        for (block, of_outputs), (same, of_inputs) in zip(outputs, inputs, strict=True):
            assert block == same
            yield BlockStatistics(block, of_inputs, of_outputs)
            # The makers below and the caller still refer to them while the next block's are made.
            of_inputs.clear()
            of_outputs.clear()
