"""A model block by block: what it hands to each, and what it expects back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.forward_trace import MEMORY
from flrc.models.anatomy.replaced_forwards import replaced

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HIDDEN = "hidden_states"
"""Name of a block's first argument, where a model hands it over by name."""
TOLERANCE = 1e-3
"""Largest difference between a walk and the model's own forward, as a share of the largest value:
far above rounding, far below what a lost mask or position does."""
RETURNS = (0, 1, 2, 3)
"""Numbers of things that blocks return, in the order in which they are tried."""


def hidden_of(positional: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The hidden states among what a block is handed."""
    found: Tensor = positional[0] if positional else named[HIDDEN]
    return found


@dataclass(frozen=True)
class Arguments:
    """What a block is handed beside the hidden states: masks, position embeddings.

    Attributes:
        positional: Those behind the hidden states, in order.
        named: The others.
    """

    positional: tuple[Any, ...]
    named: dict[str, Any]


@dataclass
class BlockCall:
    """What the model hands to each of its blocks for one batch of sequences.

    Attributes:
        hidden: ``(sequences, tokens, width)``, the input of the first block; later the input of the
            current one.
        arguments: By block: they may differ, as in models that mix full and sliding-window
            attention.
        returns: How many things a block returns as a tuple, hidden states first; 0: those alone.
    """

    hidden: Tensor
    arguments: list[Arguments]
    returns: int

    def run(self, index: int, block: nn.Module, hidden: Tensor) -> Tensor:
        """What block ``index`` makes of hidden states."""
        given = self.arguments[index]
        output = block(hidden, *given.positional, **given.named)
        moved: Tensor = output[0] if isinstance(output, tuple) else output
        return moved

    def advance(self, index: int, block: nn.Module) -> None:
        """Run block ``index``: its output is the input of the next."""
        self.hidden = self.run(index, block, self.hidden)

    def returned(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """Hidden states as the model expects them from a block; see :func:`block_calls`."""
        return _returned(hidden, self.returns)


def _returned(hidden: Tensor, returns: int) -> Tensor | tuple[Tensor | None, ...]:
    return (hidden, *[None] * (returns - 1)) if returns else hidden


@torch.no_grad()
def block_calls(model: PreTrainedModel, ids: Tensor) -> BlockCall:
    """The arguments of every block for ``(sequences, tokens)``, at the embedding's cost alone.

    No block is computed: a stand-in hands on the hidden states, as a tensor, or as a tuple where
    the model takes the first of what a block returns; a state or attention weights beside them are
    None.

    Raises:
        UserError: If the model's blocks are not a chain that hands hidden states on.
    """
    furthest, reason = -1, Exception()
    for returns in RETURNS:
        calls: list[tuple[Tensor, Arguments]] = []
        try:
            return _noted(model, ids, returns, calls)
        except MEMORY:
            raise
        except Exception as error:  # of whatever kind: the architecture is not known
            if len(calls) > furthest:  # what stopped the others is that this is not their tuple
                furthest, reason = len(calls), error
    what = "" if isinstance(reason, _OtherShapeError) else f"{type(reason).__name__}: "
    raise UserError(
        "the model does not hand hidden states from block to block, and cannot be calibrated so",
        given=f"{type(model).__name__}: {what}{reason}",
        allowed="decoder blocks that take hidden states (sequences, tokens, width) first and "
        "return them, alone or first",
    ) from reason


class _OtherShapeError(Exception):
    """Hidden states were handed over in another shape than blocks have them."""


def _noted(
    model: PreTrainedModel, ids: Tensor, returns: int, calls: list[tuple[Tensor, Arguments]]
) -> BlockCall:
    """The calls of all blocks, whose stand-ins return that many things; ``calls`` is filled."""
    _, blocks = decoder_blocks(model)

    def note(*positional: Any, **named: Any) -> Any:
        hidden, *rest = positional or (named.pop(HIDDEN),)
        shape = getattr(hidden, "shape", ())
        if len(shape) != 3 or shape[:2] != ids.shape or (calls and shape != calls[0][0].shape):
            raise _OtherShapeError(f"block {len(calls)} is handed {tuple(shape) or type(hidden)}")
        calls.append((hidden, Arguments(tuple(rest), named)))
        return _returned(hidden, returns)

    with replaced((block, note) for block in blocks):
        final = model.base_model(input_ids=ids.to(model.device), use_cache=False)[0]
    if len(calls) != len(blocks) or final.shape[: ids.ndim] != ids.shape:
        raise _OtherShapeError(f"{len(calls)} calls of {len(blocks)} blocks, {tuple(final.shape)}")
    return BlockCall(calls[0][0], [arguments for _, arguments in calls], returns)


@torch.no_grad()
def check_walk(model: PreTrainedModel, ids: Tensor, copies: int = 1) -> None:
    """Raise UserError unless walking the blocks computes what the model's own forward computes.

    Whatever an unknown architecture does between its blocks would else enter every statistic
    unseen. From where hidden states are not finite, nothing is compared: the stage that takes
    statistics names the layer. What follows the blocks no stage looks at, so it is looked at here.

    Args:
        model: In evaluation mode.
        ids: ``(tokens,)``; a few are enough.
        copies: Sequences that are walked at a time with the arguments of one.
    """
    _, blocks = decoder_blocks(model)
    seen: list[Tensor] = []

    def see(_block: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(hidden_of(positional, named))

    handles = [block.register_forward_pre_hook(see, with_kwargs=True) for block in blocks]
    try:
        logits = model(input_ids=ids[None].to(model.device), use_cache=False).logits
    except MEMORY:
        raise
    except Exception as error:  # of whatever kind: the architecture is not known
        raise UserError(
            f"the model cannot be run on {len(ids)} tokens",
            given=f"{type(model).__name__}: {type(error).__name__}: {error}",
            allowed="a decoder-only model that runs on token ids alone",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    call = block_calls(model, ids[None])
    if len(seen) != len(blocks):
        raise _not_walked(model, f"it calls {len(blocks)} blocks {len(seen)} times")
    call = replace(call, hidden=call.hidden.repeat(copies, 1, 1))
    for index, (block, expected) in enumerate(zip(blocks, seen, strict=True)):
        if not torch.isfinite(expected).all():
            return  # nothing to compare; the statistics name the layer
        if getattr(call.hidden, "shape", None) != (copies, *expected.shape[1:]):
            raise _not_walked(model, f"block {index} is handed {type(call.hidden).__name__}")
        difference = (call.hidden.float() - expected.float()).abs().max()
        if not difference <= TOLERANCE * expected.float().abs().max():
            raise _not_walked(model, f"the input of block {index} is off by {difference:.2g}")
        try:
            call.advance(index, block)
        except MEMORY:
            raise
        except Exception as error:  # of whatever kind: the architecture is not known
            raise _not_walked(model, f"block {index}: {error}") from error
    if not torch.isfinite(logits).all():
        raise UserError(
            "the model's logits are not finite",
            given=f"{type(model).__name__}: what follows its last block",
            allowed="finite weights in norm and head",
        )


def _not_walked(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        "the model's blocks one by one do not compute what the whole model does",
        given=f"{type(model).__name__}: {reason}",
        allowed="models whose blocks depend on their hidden states and arguments alone",
    )
