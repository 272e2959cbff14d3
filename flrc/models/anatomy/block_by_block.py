"""Runs a model block by block, with the arguments that the model passes to each block."""

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
"""Name of a block's first argument, if a model passes it by name."""
TOLERANCE = 1e-3
"""Largest difference from the model's own forward, as a share of the largest value: far above
rounding errors, far below the effect of a lost mask or position."""
RETURNS = (0, 1, 2, 3)
"""Numbers of values that blocks return as a tuple, in the order in which they are tried."""


def hidden_of(positional: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    """The hidden states among a block's arguments."""
    hidden: Tensor = positional[0] if positional else named[HIDDEN]
    return hidden


@dataclass(frozen=True)
class Arguments:
    """A block's arguments other than the hidden states: masks, position embeddings."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


@dataclass
class BlockCall:
    """What the model passes to each of its blocks for one batch of sequences.

    Attributes:
        hidden: ``(sequences, tokens, width)``, the input of the first block; later the input of the
            current one.
        arguments: By block: they may differ, as in models that mix full and sliding-window
            attention.
        returns: Number of values in the tuple that a block returns, hidden states first; 0: it
            returns the hidden states alone.
    """

    hidden: Tensor
    arguments: list[Arguments]
    returns: int

    def run(self, index: int, block: nn.Module, hidden: Tensor) -> Tensor:
        """The output of block ``index`` for these hidden states."""
        arguments = self.arguments[index]
        output = block(hidden, *arguments.positional, **arguments.named)
        moved: Tensor = output[0] if isinstance(output, tuple) else output
        return moved

    def advance(self, index: int, block: nn.Module) -> None:
        """Run block ``index``: its output is the input of the next."""
        self.hidden = self.run(index, block, self.hidden)

    def returned(self, hidden: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """Hidden states in the form in which the model expects them from a block."""
        return _returned(hidden, self.returns)


def _returned(hidden: Tensor, returns: int) -> Tensor | tuple[Tensor | None, ...]:
    return (hidden, *[None] * (returns - 1)) if returns else hidden


@torch.no_grad()
def block_calls(model: PreTrainedModel, ids: Tensor) -> BlockCall:
    """The arguments of every block for ``(sequences, tokens)``, at the cost of the embedding.

    No block is computed: a stub returns the hidden states, as a tensor or, if the model takes the
    first of what a block returns, as a tuple in which states and attention weights are None.

    Raises:
        UserError: If the model's blocks are not a chain that passes hidden states on.
    """
    furthest, problem = -1, Exception()
    for returns in RETURNS:
        calls: list[tuple[Tensor, Arguments]] = []
        try:
            return _recorded(model, ids, returns, calls)
        except MEMORY:
            raise
        except Exception as error:  # an unknown architecture may raise anything
            if len(calls) > furthest:  # the error of the best guess says most
                furthest, problem = len(calls), error
    kind = "" if isinstance(problem, _OtherShapeError) else f"{type(problem).__name__}: "
    raise UserError(
        "the model does not pass hidden states from block to block, and cannot be calibrated",
        given=f"{type(model).__name__}: {kind}{problem}",
        allowed="decoder blocks that take hidden states (sequences, tokens, width) first and "
        "return them, alone or first",
    ) from problem


class _OtherShapeError(Exception):
    """Hidden states have another shape than expected of blocks."""


def _recorded(
    model: PreTrainedModel, ids: Tensor, returns: int, calls: list[tuple[Tensor, Arguments]]
) -> BlockCall:
    """The calls of all blocks, whose stubs return that many values; fills ``calls``."""
    _, blocks = decoder_blocks(model)

    def stub(*positional: Any, **named: Any) -> Any:
        hidden, *rest = positional or (named.pop(HIDDEN),)
        shape = getattr(hidden, "shape", ())
        if len(shape) != 3 or shape[:2] != ids.shape or (calls and shape != calls[0][0].shape):
            raise _OtherShapeError(f"block {len(calls)} receives {tuple(shape) or type(hidden)}")
        calls.append((hidden, Arguments(tuple(rest), named)))
        return _returned(hidden, returns)

    with replaced((block, stub) for block in blocks):
        final = model.base_model(input_ids=ids.to(model.device), use_cache=False)[0]
    if len(calls) != len(blocks) or final.shape[: ids.ndim] != ids.shape:
        raise _OtherShapeError(f"{len(calls)} calls of {len(blocks)} blocks, {tuple(final.shape)}")
    return BlockCall(calls[0][0], [arguments for _, arguments in calls], returns)


@torch.no_grad()
def check_walk(model: PreTrainedModel, ids: Tensor, copies: int = 1) -> None:
    """Raise UserError unless running block by block computes what the model's forward computes.

    Otherwise anything that an unknown architecture does between its blocks would silently distort
    every statistic. Nothing is compared after the first hidden states that are not finite: the
    stage that collects statistics names the layer. No stage looks at what follows the blocks, so
    the logits are checked here.

    Args:
        model: In evaluation mode.
        ids: ``(tokens,)``; a few are enough.
        copies: Sequences that are run at once with the arguments of one.
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
    except Exception as error:  # an unknown architecture may raise anything
        raise UserError(
            f"the model cannot be run on {len(ids)} tokens",
            given=f"{type(model).__name__}: {type(error).__name__}: {error}",
            allowed="a decoder-only model that needs only token ids",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    call = block_calls(model, ids[None])
    if len(seen) != len(blocks):
        raise _differs(model, f"it calls {len(blocks)} blocks {len(seen)} times")
    call = replace(call, hidden=call.hidden.repeat(copies, 1, 1))
    for index, (block, expected) in enumerate(zip(blocks, seen, strict=True)):
        if not torch.isfinite(expected).all():
            return  # nothing to compare; the statistics name the layer
        if getattr(call.hidden, "shape", None) != (copies, *expected.shape[1:]):
            raise _differs(model, f"block {index} receives a {type(call.hidden).__name__}")
        difference = (call.hidden.float() - expected.float()).abs().max()
        if not difference <= TOLERANCE * expected.float().abs().max():
            raise _differs(model, f"the input of block {index} is off by {difference:.2g}")
        try:
            call.advance(index, block)
        except MEMORY:
            raise
        except Exception as error:  # an unknown architecture may raise anything
            raise _differs(model, f"block {index}: {error}") from error
    if not torch.isfinite(logits).all():
        raise UserError(
            "the model's logits are not finite",
            given=f"{type(model).__name__}: the modules after its last block",
            allowed="finite weights in norm and head",
        )


def _differs(model: PreTrainedModel, reason: str) -> UserError:
    return UserError(
        "the model's blocks one by one do not compute what the whole model does",
        given=f"{type(model).__name__}: {reason}",
        allowed="models whose blocks depend only on their hidden states and arguments",
    )
