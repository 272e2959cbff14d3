"""The decoder blocks of a model: the list of modules that its forward pass runs through."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from flrc.errors import UserError
from flrc.models.anatomy.forward_trace import Call, calls_on_two_tokens

_known: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()
"""Results of :func:`lists_run`."""


def decoder_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the model's decoder blocks; raises errors as :func:`lists_run`."""
    name = lists_run(model)[0]
    blocks = model.get_submodule(name)
    assert isinstance(blocks, nn.ModuleList)
    return name, blocks


def lists_run(model: nn.Module) -> list[str]:
    """The module lists that a forward pass over text runs, the decoder blocks first.

    If a model has several lists, its forward pass decides: blocks are called once each, in order,
    and each receives what the previous one returned. Of several such lists the one with the most
    parameters holds the blocks; others may lie inside them. Encoders of images or sound are not
    run on text, however large they are.

    Returns:
        The decoder blocks, then the lists outside of them; cached for each model.

    Raises:
        UndecidedError: If a forward pass is needed, and the model has no weights for it.
        UserError: If the model has no list of blocks, or does not run one.
    """
    if model not in _known:
        _known[model] = _find(model)
    return _known[model]


def _find(model: nn.Module) -> list[str]:
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0
    }
    outermost = [name for name in lists if not any(_inside(name, other) for other in lists)]
    names = outermost if len(outermost) < 2 else _run(model, lists)
    if not names:
        raise UserError(
            "the model has no list of decoder blocks to compress",
            given=type(model).__name__,
            allowed="a decoder-only model with blocks of torch.nn.Linear, such as Llama or Qwen2",
        )
    return names


def _run(model: Any, lists: Mapping[str, nn.ModuleList]) -> list[str]:
    members = {f"{name}.{index}": name for name in lists for index in range(len(lists[name]))}
    calls: dict[str, list[Call]] = {}
    for call in calls_on_two_tokens(model, list(members)):
        calls.setdefault(members[call.name], []).append(call)

    def likeness(name: str) -> tuple[bool, bool, int]:
        """How well a list fits decoder blocks; ``check_walk`` rejects a wrong choice later."""
        order = [f"{name}.{index}" for index in range(len(lists[name]))]
        once = [call.name for call in calls[name]] == order
        chained = once and all(_chained(*pair) for pair in pairwise(calls[name]))
        return chained, once, sum(parameter.numel() for parameter in lists[name].parameters())

    if not calls:
        return []
    blocks = max(calls, key=likeness)
    return [blocks, *(name for name in calls if name != blocks and not _inside(name, blocks))]


def _chained(call: Call, following: Call) -> bool:
    """Whether the following call receives what this one returned, alone or first."""
    returned = call.output[0] if isinstance(call.output, tuple) else call.output
    return any(given is returned for given in (*following.positional, *following.named.values()))


def _inside(name: str, other: str) -> bool:
    return name.startswith(f"{other}.")
