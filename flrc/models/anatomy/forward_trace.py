"""The calls of a model's modules in a forward pass over two tokens, with or without weights.

Nothing is assumed about an architecture. If the pass raises an error, a model with weights cannot
be used; one without weights has to be traced again with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from flrc.errors import UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

MEMORY = (MemoryError, torch.OutOfMemoryError)
"""Errors that say nothing about a model's architecture."""


@dataclass(frozen=True)
class Call:
    """A call of a module; its tensors stay alive, so that their identities can be compared."""

    name: str
    positional: tuple[Any, ...]
    named: dict[str, Any]
    output: Any


class UndecidedError(Exception):
    """The forward pass needs values of weights, and the model has none (meta device)."""


@torch.no_grad()
def calls_on_two_tokens(model: PreTrainedModel, names: Sequence[str]) -> list[Call]:
    """Every call of the named modules in a forward pass over two tokens, in order of return.

    Raises:
        UndecidedError: If it cannot be run without weights, and has none.
        UserError: If it has weights and cannot be run.
    """
    problem: Exception | None = None
    # Most models use a mask of token pairs as it is; the others build theirs from a mask of tokens.
    for shape in ((1, 1, 2, 2), (1, 2)):
        mask = torch.ones(shape, dtype=torch.bool, device=model.device)
        try:
            return _calls(model, names, mask if mask.ndim == 4 else mask.long())
        except MEMORY:
            raise
        except Exception as error:  # an unknown architecture may raise anything
            problem = error
    given = f"{type(model).__name__}: {type(problem).__name__}: {problem}"
    if model.device.type == "meta":
        raise UndecidedError(given) from problem
    raise UserError(
        "the model cannot be run on two tokens to trace its calls",
        given=given,
        allowed="a decoder-only model, such as Llama, Qwen2, Mistral, Gemma, GPT-NeoX or OPT",
    ) from problem


def _calls(model: PreTrainedModel, names: Sequence[str], mask: torch.Tensor) -> list[Call]:
    calls: list[Call] = []

    def record(name: str, _module: nn.Module, given: tuple[Any, ...], named: Any, out: Any) -> None:
        calls.append(Call(name, given, named, out))

    ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    with ExitStack() as stack:
        for name in names:
            module = model.get_submodule(name)
            handle = module.register_forward_hook(partial(record, name), with_kwargs=True)
            stack.callback(handle.remove)
        model(input_ids=ids, attention_mask=mask, use_cache=False)
    return calls


@contextmanager
def weights_read(layers: Mapping[str, nn.Module]) -> Iterator[set[str]]:
    """While active, collect the names of layers whose ``weight`` is read outside of their calls."""
    read: set[str] = set()
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(setattr, layer, "__class__", type(layer))
            layer.__class__ = _observed(type(layer), name, read)
        yield read


def _observed(kind: type[nn.Module], name: str, read: set[str]) -> type[nn.Module]:
    calls: list[None] = []  # one entry for each call that has not returned

    class Observed(kind):  # type: ignore[misc, valid-type]
        def __call__(self, *positional: Any, **named: Any) -> Any:
            calls.append(None)
            try:
                return super().__call__(*positional, **named)
            finally:
                calls.pop()

        def __getattr__(self, attribute: str) -> Any:
            if attribute == "weight" and not calls:
                read.add(name)
            return super().__getattr__(attribute)

    return Observed
