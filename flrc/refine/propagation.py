"""Walks a model block by block, dense and compressed side by side, and decomposes again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flrc.calibration.collect import BlockCall, block_calls
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
        inputs = _advance(model, blocks[index], index, dense, groups)
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
            _advance(model, blocks[index], index, compressed, {})
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


def _advance(
    model: nn.Module,
    block: nn.Module,
    index: int,
    calls: Sequence[BlockCall],
    groups: Mapping[str, Any],
) -> dict[str, list[Tensor]]:
    """Run a block over all sequences; what the groups' layers are handed, by input group."""
    seen: dict[str, list[Tensor]] = {name: [] for name in groups}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _module, arguments, name=name: seen[name].append(arguments[0])
        )
        for name in groups
    ]
    try:
        for call in calls:
            output = block(call.hidden, **call.arguments[index])
            call.hidden = output[0] if isinstance(output, tuple) else output
    finally:
        for handle in handles:
            handle.remove()
    return seen


class _Reached(Exception):
    """The layer that was waited for is about to run."""


def _input_of(
    model: nn.Module, block: nn.Module, index: int, call: BlockCall, leader: str
) -> Tensor:
    """What ``leader`` is handed when the block runs on ``call``; no further layer is computed."""
    seen: list[Tensor] = []

    def stop(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0])
        raise _Reached

    handle = model.get_submodule(leader).register_forward_pre_hook(stop)
    try:
        block(call.hidden, **call.arguments[index])
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]
