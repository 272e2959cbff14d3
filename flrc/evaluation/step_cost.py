"""Bytes and operations of one decoding step, counted on the modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.switching import activate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from flrc.plans.rank_plan import RankPlan


@dataclass(frozen=True)
class StepCost:
    """Cost of one forward step, which generates one token per sequence.

    Attributes:
        weights: Bytes of weights that are read.
        cache: Bytes of cached keys and values that are read.
        operations: Two per weight and sequence; attention over the context is not counted.
    """

    weights: int
    cache: int
    operations: int


def step_costs(
    model: PreTrainedModel, at: Mapping[int, RankPlan], *, batch: int, prompt: int, steps: int
) -> list[StepCost]:
    """Costs of each step after the prefill; the plan of the last step is active afterwards.

    Args:
        model: Dense or compressed.
        at: Plans by the forward step, counted from 0, at which they become active.
        batch: Number of sequences.
        prompt: Tokens of each prompt.
        steps: Forward steps, including the prefill.
    """
    costs = []
    size, count = weights_read(model)
    for step in range(steps):
        if step in at:
            activate(model, at[step])
            size, count = weights_read(model)
        if step:
            cache = batch * cached_bytes(model, prompt + step)
            costs.append(StepCost(size, cache, 2 * batch * count))
    return costs


def weights_read(model: nn.Module) -> tuple[int, int]:
    """Bytes and number of the weights that a decoding step reads at the active ranks.

    The input embedding is not counted, since only one row per sequence is read, unless it is tied
    to the head, which is read completely. Factors shared by a group of layers are read once.
    """
    size = count = 0
    inside: set[int] = set()
    projected: set[int] = set()
    for layer in low_rank_layers(model).values():
        inside |= {id(parameter) for parameter in layer.parameters()}
        size += 0 if layer.bias is None else layer.bias.nbytes
        if layer.rank is None:
            assert layer.weight is not None
            size += layer.weight.bytes()
            count += layer.active_parameters
            continue
        size += layer.left_t.bytes(layer.rank)
        count += layer.output_parameters
        if id(layer.input_rows) not in projected:
            projected.add(id(layer.input_rows))
            size += layer.input_rows.bytes(layer.rank) + layer.index_bytes
            count += layer.input_parameters
    for dense in (module for module in model.modules() if isinstance(module, DenseLinear)):
        inside |= {id(parameter) for parameter in dense.weight.parameters()}
        size += dense.weight.bytes()
        count += dense.weight.count * dense.weight.width
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    tied = head is not None and head.weight is embedding.weight
    for parameter in model.parameters():
        if id(parameter) not in inside and (tied or parameter is not embedding.weight):
            size += parameter.nbytes
            count += parameter.numel()
    return size, count


def cached_bytes(model: PreTrainedModel, context: int) -> int:
    """Bytes of the cached keys and values of one sequence of ``context`` tokens."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * context * model.dtype.itemsize)
