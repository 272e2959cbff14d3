"""The dense model's last hidden states, and the head that makes logits of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from flrc.calibration.statistics import not_finite
from flrc.core.progress import progress
from flrc.errors import UserError
from flrc.healing.divergence import Head
from flrc.models.anatomy.replaced_forwards import replaced

FEW = 16
"""Tokens on which the head is compared with the whole model."""
TOLERANCE = 1e-3
"""Largest difference of the logits, as a share of the largest: above rounding errors."""


class _LastStates(BaseModelOutputWithPast):  # type: ignore[misc]
    """Last hidden states; what a family returns besides, such as router logits, is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def last_states(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """``(tokens, width)``: what the head makes logits of, for one sequence ``(tokens,)``."""
    states: Tensor = model.base_model(input_ids=ids[None].to(model.device), use_cache=False)[0][0]
    return states


@torch.no_grad()
def dense_states(model: PreTrainedModel, sequences: Sequence[Tensor]) -> list[Tensor]:
    """The last hidden states of every sequence, in host memory: ``tokens * width`` numbers.

    The dense model need not be held beside the compressed one. Logits would take ``vocabulary /
    width`` times as much.

    Raises:
        UserError: If they are not finite, or the model makes its logits of something else.
    """
    check_head(model, sequences[0])
    states = []
    for sequence in progress(sequences, "the dense model's states", unit="sequence"):
        last = last_states(model, sequence)
        if not bool(torch.isfinite(last).all()):
            raise not_finite("the dense model's last hidden states")
        states.append(last.cpu())
    return states


def head_of(model: PreTrainedModel) -> Head:
    """The model's own way from last hidden states to logits: the head, scales, soft caps.

    The model's forward runs with a stub in place of everything below its head, so that nothing that
    a family does behind the head has to be known here. The head of some families, such as OPT,
    reads the decoder within the base model.

    Raises:
        UserError: If nothing is known to be below its head.
    """
    if model.base_model is model:
        raise _unfit(model)
    below = {id(module): module for module in (model.base_model, model.get_decoder())}

    def logits(states: Tensor) -> Tensor:
        def stub(*_: object, **__: object) -> _LastStates:
            return _LastStates(last_hidden_state=states[None])  # type: ignore[arg-type]

        with replaced((module, stub) for module in below.values()):
            ids = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
            found: Tensor = model(input_ids=ids, use_cache=False).logits[0]
        return found

    return logits


@torch.no_grad()
def check_head(model: PreTrainedModel, ids: Tensor) -> None:
    """Raise UserError unless the logits depend on the last hidden states alone."""
    ids = ids[:FEW]
    whole = model(input_ids=ids[None].to(model.device), use_cache=False).logits[0].float()
    parts = head_of(model)(last_states(model, ids)).float()
    if whole.shape != parts.shape or bool(
        (whole - parts).abs().max() > TOLERANCE * whole.abs().max()
    ):
        raise _unfit(model)


def _unfit(model: PreTrainedModel) -> UserError:
    return UserError(
        "the model makes its logits of more than its last hidden states, and cannot be healed",
        given=type(model).__name__,
        allowed="models whose logits depend on the output of their base model alone",
        fix="heal=none",
    )
