"""What each stage of a run demands, counted before any weight is read.

The counts are of shapes and token sequences; :mod:`flrc.running.machine` turns them into time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.calibration import demands as calibrating
from flrc.calibration.output_statistics import sequences_read
from flrc.calibration.statistics_store import input_bytes, output_bytes
from flrc.core.demand import Demand, total
from flrc.running.factors import factor_bytes
from flrc.running.identity import CALIBRATION, SEARCH

if TYPE_CHECKING:
    import torch

    from flrc.config import RunConfig
    from flrc.data.token_sequences import TokenSequences
    from flrc.form.base import Form
    from flrc.models.anatomy.model_shape import ModelShape
    from flrc.plans.target import Target

CANDIDATES = 8
"""Share of a batch of candidates that a probe's batch of sequences is."""


@dataclass(frozen=True)
class StageDemand:
    """One stage of a run.

    Attributes:
        name: As in records.
        demand: What it takes.
        after_surgery: Whether the model is compressed by then.
    """

    name: str
    demand: Demand
    after_surgery: bool = False


@dataclass(frozen=True)
class Reckoning:
    """Counts the stages of a run, from its configuration, a model without weights and its tokens.

    Attributes:
        config: Of the run.
        shape: Of the model, in the run's dtype.
        dtype: The run's.
        reads: The token sequences by what they are read for.
    """

    config: RunConfig
    shape: ModelShape
    dtype: torch.dtype
    reads: Mapping[str, TokenSequences]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each calibration sequence."""
        read = self.reads.get(CALIBRATION)
        return [] if read is None else [len(ids) for ids in read.ids]

    @property
    def kept(self) -> float:
        """Share of the targets' parameters that a step uses."""
        return 1 - self.config.rate if self.config.compresses else 1.0

    @property
    def disk(self) -> int:
        """Bytes that the cache takes: factors, and statistics that are kept."""
        if not self.config.compresses:
            return 0
        kept = self.cached_bytes("statistics") + self.cached_bytes("output gradients")
        return factor_bytes(self.shape.targets, self.dtype) + kept

    def cached_bytes(self, stage: str) -> int:
        """Of the statistics that a stage leaves in the cache; 0 if they are not read or too large.

        Args:
            stage: ``statistics`` (of inputs) or ``output gradients``.
        """
        decomposition, size = self.config.decomposition, 0
        if stage == "statistics" and decomposition.CALIBRATED:
            size = input_bytes(self.shape.targets)
        if stage == "output gradients" and decomposition.TWO_SIDED:
            size = output_bytes(self.shape.targets)
        return size if size <= self.config.paths.keep_statistics_gb * 1e9 else 0

    @property
    def _memory(self) -> float:
        return self.config.paths.statistics_memory_gb * 1e9

    def _fits(self, lengths: list[int]) -> bool:
        """As :func:`flrc.calibration.activation_checkpointing.graph_fits`."""
        first = min((t.block for t in self.shape.targets), default=0)
        size = self.shape.graph_bytes(first, max(lengths, default=0))
        return self.config.placement == "device" and size <= self._memory

    def stages(self) -> list[StageDemand]:
        """The stages in the order of the run."""
        return list(self._stages())

    def _stages(self) -> Iterator[StageDemand]:
        config, shape = self.config, self.shape
        yield StageDemand("load", Demand(moved=2 * shape.bytes))
        for evaluation in config.evaluation.values():
            for part in evaluation.parts() if evaluation.GENERATES else ():
                read = self.reads[evaluation.title(part, config.data)]
                yield StageDemand("dense replies", evaluation.demand(shape, read, 1.0))
        if config.compresses:
            yield from self._compression()
        for evaluation in config.evaluation.values():
            for part in evaluation.parts():
                title = evaluation.title(part, config.data)
                if evaluation.GENERATES and not config.compresses:
                    continue  # its replies are those above
                demand = evaluation.demand(shape, self.reads[title], self.kept)
                yield StageDemand(title, demand, after_surgery=config.compresses)

    def _compression(self) -> Iterator[StageDemand]:
        config, shape, lengths = self.config, self.shape, self.lengths
        yield from self._statistics(again=False)
        yield StageDemand("decomposition", self._decomposition())
        if config.allocator.SCORED:
            scored = config.sensitivity.demand(shape, lengths, self._fits(lengths))
            yield StageDemand("sensitivity", scored)
        if any(config.allocator.measurements()):
            yield StageDemand("allocation", self._probes())
        if SEARCH in self.reads:  # else it is deferred
            yield StageDemand("schedule", self._search())
        if config.refine.REFINES:
            refined = config.refine.demand(shape, lengths, config.decomposition)
            again = total(stage.demand for stage in self._statistics(again=True))
            yield StageDemand("refinement", refined + again)
        yield StageDemand("surgery", self._surgery())
        if config.heal.HEALS:
            healed = config.heal.demand(shape, lengths, self.kept, self._fits(lengths))
            yield StageDemand("healing", healed)

    def _statistics(self, *, again: bool) -> Iterator[StageDemand]:
        """Statistics of inputs and of gradients; those that are cached are not collected again."""
        decomposition, shape = self.config.decomposition, self.shape
        inputs = decomposition.CALIBRATED and not (again and self.cached_bytes("statistics"))
        outputs = decomposition.TWO_SIDED and not (again and self.cached_bytes("output gradients"))
        lengths = self.lengths
        read = lengths
        if decomposition.TWO_SIDED:
            sequences = list(self.reads[CALIBRATION].ids)
            enough = decomposition.gradients().enough
            read = lengths[: sequences_read(shape.targets, sequences, enough)]  # type: ignore[arg-type]
        grams = input_bytes(shape.targets) + output_bytes(shape.targets)
        if inputs and outputs and grams <= self._memory and self._fits(lengths):
            yield StageDemand("output gradients", calibrating.of_both(shape, lengths, len(read)))
            return
        if outputs:
            demand = calibrating.of_outputs(
                shape, read, memory=self._memory, on_host=self.config.placement == "host"
            )
            yield StageDemand("output gradients", demand)
        if inputs:
            yield StageDemand("statistics", calibrating.of_inputs(shape, lengths))

    def _decomposition(self) -> Demand:
        """Every target; one block's statistics and factors are held."""
        decomposition, tokens, found = self.config.decomposition, sum(self.lengths), Demand()
        for block in self.shape.blocks:
            targets = list(block.targets)
            if targets:
                held = factor_bytes(targets, self.dtype)
                held += input_bytes(targets) if decomposition.CALIBRATED else 0
                held += output_bytes(targets) if decomposition.TWO_SIDED else 0
                each = (decomposition.demand(t.d_out, t.d_in, tokens) for t in targets)
                found += total(each).holding(held)
        return found + Demand(moved=2 * factor_bytes(self.shape.targets, self.dtype))

    def _probes(self) -> Demand:
        """The model measured with targets truncated: only the blocks behind them run again."""
        from flrc.allocator.probe import TOKENS

        shape, allocator = self.shape, self.config.allocator
        singles, plans = allocator.measurements()
        lengths = self.lengths[: allocator.samples]
        head = shape.forward(lengths, first=len(shape.blocks))
        found = shape.forward(lengths)
        for index, block in enumerate(shape.blocks if singles else ()):
            behind = shape.forward(lengths, first=index)
            found += head + shape.forward(lengths, head=False) * (1 / len(shape.blocks))
            found += behind * (singles * len(block.targets))
        found += (shape.forward(lengths) + head) * plans
        batch = max(TOKENS // CANDIDATES, max(lengths, default=0))
        states = (sum(lengths) + TOKENS) * shape.width * shape.itemsize
        return found.holding(states + 3 * 4 * batch * shape.vocabulary)

    def _search(self) -> Demand:
        """Every trial: the layers of its plan are built beside the dense ones, and generate."""
        search, shape, read = self.config.search, self.shape, self.reads[SEARCH]
        prompts = [len(ids) for ids in read.ids]
        batch = getattr(search, "batch_size", 1)
        built = self.kept * sum(target.dense for target in shape.targets) * shape.itemsize
        found = Demand()
        for items in search.generations(self.config.schedule.DIRECTION):
            # Each round has items of its own; the longest stand for all.
            chosen = sorted(prompts)[-items:] if items else []
            replies = shape.generation(
                chosen, new_tokens=read.new_tokens, batch=batch, kept=self.kept
            )
            found += replies + Demand(moved=4 * built)
        return found.holding(built)

    def _surgery(self) -> Demand:
        """The layers of the plan, at the uniform ranks of the rate.

        Each takes the place of its dense layer before the next is built.
        """
        form, found = self.config.form, Demand()
        for target in self.shape.targets:
            found += form.demand(uniform_rank(form, target, self.kept), target)
        return found


def uniform_rank(form: Form, target: Target, kept: float) -> int:
    """The largest rank that costs at most this share of a target's parameters."""
    ranks = range(min(target.d_out, target.d_in) + 1)
    return max(0, bisect_right(ranks, kept * target.dense, key=lambda r: form.cost(r, target)) - 1)
