"""Runs the dense and the compressed model side by side, block by block, and refits each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from flrc.calibration.input_statistics import input_hooks
from flrc.calibration.statistics import BlockStatistics, InputAccumulator, not_finite, summable
from flrc.core.progress import progress
from flrc.decomposition.dead_layers import decompose_target
from flrc.decomposition.factors import Factors
from flrc.decomposition.statistics import Statistics
from flrc.models.anatomy.block_by_block import block_calls
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.replaced_forwards import replaced, truncated
from flrc.plans.rank_plan import RankPlan
from flrc.plans.target import Target
from flrc.refine.base import FactorsByBlock
from flrc.refine.propagated import Propagated
from flrc.refine.weight_correction import corrected_weight


@torch.no_grad()
def propagated_factors(
    settings: Propagated, statistics: Statistics, plan: RankPlan
) -> FactorsByBlock:
    """The refined factors of :class:`~flrc.refine.propagated.Propagated`.

    All sequences pass through a block as one batch, first dense, then compressed. In the compressed
    pass each layer is refitted to its actual inputs and truncated when it is reached. Shorter
    sequences are padded at their ends, which no earlier token of a causal model attends to. Memory:
    ``tokens * (2 width + sum of d_in over input groups)`` numbers of the model's dtype, plus what
    one block computes.
    """
    model, targets = statistics.dense.model, statistics.dense.targets
    _, blocks = decoder_blocks(model)
    sequences = statistics.dense.sequences[: settings.samples]
    lengths = [len(sequence) for sequence in sequences]
    dense = block_calls(model, nn.utils.rnn.pad_sequence(list(sequences), batch_first=True))
    compressed = replace(dense)
    total = len({target.block for target in targets})
    for known in progress(statistics.blocks(), "refining", total, "block"):
        groups: dict[str, list[Target]] = {}
        for target in targets:
            if target.block == known.block and plan.ranks[target.name] is not None:
                groups.setdefault(target.input_group, []).append(target)
        inputs: dict[str, Tensor] = {}
        with input_hooks(model, {leader: partial(inputs.__setitem__, leader) for leader in groups}):
            dense.advance(known.block, blocks[known.block])
        fit = _Fit(settings, statistics, plan.ranks, known, inputs, lengths)
        with truncated_on_arrival(model, groups, fit) as factors:
            compressed.advance(known.block, blocks[known.block])
        yield known.block, factors


@contextmanager
def truncated_on_arrival(
    model: nn.Module,
    groups: Mapping[str, Sequence[Target]],
    fit: Callable[[Sequence[Target], Tensor], dict[str, Factors]],
) -> Iterator[dict[str, Factors]]:
    """While active, reaching a named layer truncates its targets before the layer computes.

    A group is named after the layer that is the first to run; ``fit`` returns the factors of its
    targets, by name, given that layer's input. The layers are dense again when the context ends.

    Yields:
        The factors so far, by target name.
    """
    factors: dict[str, Factors] = {}
    with ExitStack() as stack:
        for name, targets in groups.items():
            module = model.get_submodule(name)
            waiting = stack.enter_context(ExitStack())

            def arrive(
                x: Tensor,
                module: nn.Module = module,
                waiting: ExitStack = waiting,
                targets: Sequence[Target] = targets,
            ) -> Tensor:
                waiting.close()
                fitted = fit(targets, x)
                factors.update(fitted)
                cuts = [(t, (fitted[t.name].left_t, fitted[t.name].right)) for t in targets]
                stack.enter_context(truncated(model, cuts))
                return module.forward(x)  # type: ignore[no-any-return]

            waiting.enter_context(replaced([(module, arrive)]))
        yield factors


@dataclass(frozen=True)
class _Fit:
    """Refits targets that read the same inputs, at their planned ranks."""

    settings: Propagated
    source: Statistics
    ranks: Mapping[str, int | None]
    known: BlockStatistics  # of the dense model
    dense: dict[str, Tensor]  # (sequences, tokens, d_in) by input group; dropped once used
    lengths: Sequence[int]  # tokens of each sequence; the rest is padding

    def __call__(self, targets: Sequence[Target], compressed: Tensor) -> dict[str, Factors]:
        """Factors by target name, from the compressed inputs ``(sequences, tokens, d_in)``."""
        model = self.source.dense.model
        group, width = targets[0].input_group, targets[0].d_in
        result = {target.name: _rank_zero(target) for target in targets}
        targets = [target for target in targets if self.ranks[target.name] != 0]
        dense = self.dense.pop(group)
        if not targets:
            return result
        gram = InputAccumulator(width, model.device)
        cross = torch.zeros_like(gram.gram)
        # OPT's feed-forward layers get all sequences as one row of tokens.
        pair = (x.reshape(len(self.lengths), -1, width) for x in (dense, compressed))
        for x, rows, length in zip(*pair, self.lengths, strict=True):
            gram.add(rows[:length])
            cross += _product(x[:length], rows[:length])
        statistics = gram.result()
        if not statistics.finite:
            raise not_finite(f"the inputs of {group} in the compressed model")
        before = self.known.inputs.get(group)
        metric = None if before is None else before.to(model.device).pooled(statistics)
        moved = corrected_weight(
            torch.cat([target.weight(model) for target in targets]).to(model.device),
            cross / statistics.tokens,
            statistics.gram,
            self.settings.strength,
            self.settings.prior * width / statistics.tokens,
        )
        parts = torch.split(moved, [target.d_out for target in targets])
        for target, weight in zip(targets, parts, strict=True):
            outputs = self.known.outputs.get(target.name)
            gradients = None if outputs is None else outputs.to(model.device)
            factors = decompose_target(self.source.decomposition, target, weight, metric, gradients)
            result[target.name] = _truncated(factors, self.ranks[target.name])
        return result


def _rank_zero(target: Target) -> Factors:
    nothing = torch.zeros(0, dtype=torch.float64)
    return Factors(nothing.new_zeros(0, target.d_out), nothing.new_zeros(0, target.d_in), nothing)


def _truncated(factors: Factors, rank: int | None) -> Factors:
    """Copies of the first ranks: views would keep the full factors in memory."""
    return Factors(
        factors.left_t[:rank].clone(), factors.right[:rank].clone(),
        factors.spectrum[:rank].clone(), factors.rescue,
    )  # fmt: skip


def _product(dense: Tensor, compressed: Tensor) -> Tensor:
    """``sum over tokens of x x'^T``, with the precision of :class:`InputAccumulator`."""
    dense, compressed = summable(dense), summable(compressed)
    dtype = torch.promote_types(dense.dtype, compressed.dtype)
    return dense.to(dtype).T @ compressed.to(dtype)
