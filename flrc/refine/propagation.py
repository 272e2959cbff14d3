"""Walks a model block by block, dense and compressed side by side, and decomposes again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from flrc.calibration.collect import BlockCall, block_calls, watched
from flrc.calibration.statistics import InputAccumulator
from flrc.decomposition.factors import Factors
from flrc.models.cutting import cut
from flrc.models.targets import Target, decoder_blocks
from flrc.progress import progress
from flrc.refine.correction import propagated_weight

if TYPE_CHECKING:
    from flrc.refine.base import Decided


@torch.no_grad()
def propagated_factors(
    decided: Decided, strength: float, prior: float, samples: int
) -> Iterator[tuple[int, dict[str, Factors]]]:
    """See :class:`~flrc.refine.propagated.Propagated`.

    Hidden states of all used sequences are carried from block to block twice, dense and compressed,
    and one block's dense inputs are held: ``tokens * (2 width + sum of d_in over input groups)``
    numbers of the model's dtype.
    """
    model, plan = decided.model, decided.plan
    _, blocks = decoder_blocks(model)
    dense = [block_calls(model, sequence) for sequence in decided.sequences[:samples]]
    compressed = [BlockCall(call.hidden, call.arguments) for call in dense]
    total = len({target.block for target in decided.targets})
    doing = "refining, block by block"
    for known in progress(decided.statistics, doing, total):
        index = known.block
        members = [target for target in decided.targets if target.block == index]
        groups: dict[str, list[Target]] = {}
        for target in members:
            groups.setdefault(target.input_group, []).append(target)
        inputs: dict[str, list[Tensor]] = {leader: [] for leader in groups}
        with watched(model, {leader: found.append for leader, found in inputs.items()}):
            for call in dense:
                call.advance(index, blocks[index])
        found: dict[str, Factors] = {}
        cuts: dict[str, tuple[Target, tuple[Tensor, Tensor]]] = {}
        for leader, sharing in groups.items():
            factored = [target for target in sharing if plan.ranks[target.name] is not None]
            if not factored:
                continue
            gram = InputAccumulator(sharing[0].d_in, model.device)
            cross = torch.zeros_like(gram.gram)
            with cut(model, cuts.values()):
                for call, x in zip(compressed, inputs[leader], strict=True):
                    seen = _input_of(model, blocks[index], index, call, leader)
                    gram.add(seen)
                    cross += _product(x, seen)
            statistics = gram.result()
            damping = prior * gram.gram.shape[0] / statistics.tokens
            before = known.inputs.get(leader)
            metric = None if before is None else before.to(model.device).pooled(statistics)
            stacked = torch.cat([target.weight(model) for target in factored])
            moved = propagated_weight(
                stacked, cross / statistics.tokens, statistics.gram, strength, damping
            )
            rows = [target.d_out for target in factored]
            for target, weight in zip(factored, torch.split(moved, rows), strict=True):
                outputs = known.outputs.get(target.name)
                factors = decided.decomposition.decompose(
                    weight, metric, None if outputs is None else outputs.to(model.device)
                )
                found[target.name] = kept = _truncated(factors, plan.ranks[target.name])
                cuts[target.name] = (target, (kept.left_t, kept.right))
        with cut(model, cuts.values()):
            for call in compressed:
                call.advance(index, blocks[index])
        yield index, found


def _truncated(factors: Factors, rank: int | None) -> Factors:
    return Factors(
        factors.left_t[:rank], factors.right[:rank], factors.spectrum[:rank], factors.rescue
    )


def _product(x: Tensor, seen: Tensor) -> Tensor:
    """``sum over tokens of x x'^T``, as precise as :class:`InputAccumulator` takes it."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, seen = (t.reshape(-1, t.shape[-1]).to(dtype) for t in (x, seen))
    return x.T @ seen


class _Reached(Exception):
    """The layer that was waited for is about to run."""


def _input_of(
    model: nn.Module, block: nn.Module, index: int, call: BlockCall, leader: str
) -> Tensor:
    """What ``leader`` is handed when the block runs on ``call``; no further layer is computed."""
    seen: list[Tensor] = []

    def stop(x: Tensor) -> None:
        seen.append(x)
        raise _Reached

    with watched(model, {leader: stop}), suppress(_Reached):
        block(call.hidden, **call.arguments[index])
    return seen[0]
