"""A compressed model that is about to be tuned, in memory or on disk."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flrc.core.devices import resolve_device
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.healing.teacher import head_of
from flrc.library.compressed_model import as_model, loaded_of
from flrc.library.generation import load
from flrc.models.anatomy.input_limits import Limits
from flrc.models.anatomy.placement import waits_on_host
from flrc.models.checkpoints.weights import weights_digest
from flrc.models.layers.compressed_layers import compressed_layers
from flrc.models.layers.int8_rows import Int8Rows
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.sources.loading import parameter_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.library.compressed_model import CompressedModel
    from flrc.plans.run_plans import Plans
    from flrc.results.records.record import Record

PROBES = 8
"""States on which two heads are compared."""


@dataclass(frozen=True)
class Student:
    """What is known of a compressed model without holding it.

    Attributes:
        open: The model: the caller's own, or read from its checkpoint once more.
        in_memory: Whether it is the caller's own.
        device: Where it computes.
        placement: ``device`` or ``host``, as in a run.
        dtype: ``float32`` ...
        weights: Digest of its weights.
        numbers: How many these are.
        head: What its head makes of :func:`probed_states`, in host memory.
        limits: Of its inputs.
        tokenizer: Its tokenizer.
        plans: Its plans.
        form: How its factors are stored.
        record: Of the run that made it; None if it is not known.
    """

    open: Callable[[], CompressedModel]
    in_memory: bool
    device: torch.device
    placement: str
    dtype: str
    weights: str
    numbers: int
    head: Float[Tensor, "probes vocabulary"]
    limits: Limits
    tokenizer: PreTrainedTokenizerBase
    plans: Plans
    form: Form
    record: Record | None

    @classmethod
    def of(cls, given: CompressedModel | str | Path, device: str, runs: Path) -> Student:
        """Look at a model; one on disk is loaded for that, and freed again.

        Args:
            given: The model, or what :func:`flrc.load` takes.
            device: Where one on disk goes.
            runs: Where ids of runs are looked up.

        Raises:
            UserError: If it is not a compressed model, or is quantized.
        """
        if isinstance(given, str | Path):
            path, place = given, str(resolve_device(device))
            try:
                return cls._seen(lambda: load(path, place, runs=runs), in_memory=False)
            finally:
                gc.collect()  # a model may be part of reference cycles
        model = given
        return cls._seen(lambda: _whole(model), in_memory=True)

    @classmethod
    def _seen(cls, open_model: Callable[[], CompressedModel], in_memory: bool) -> Student:
        model = open_model()
        layers = compressed_layers(model)
        if any(isinstance(part, Int8Rows) for part in model.modules()):
            raise UserError(
                "a quantized model cannot be tuned: its factors are integers",
                given="a model with int8 factors",
                allowed="a model that is compressed but not quantized",
                fix="flrc.heal first, and quantize what it returns",
            )
        if not layers:
            raise UserError(
                "the model has no compressed layers",
                given=type(model).__name__,
                allowed="what flrc.load or flrc.compress returns",
            )
        return cls(
            open_model,
            in_memory,
            model.device,
            "host" if waits_on_host(model) else "device",
            str(model.dtype).removeprefix("torch."),
            weights_digest(model),
            parameter_count(model),
            head_outputs(model),
            Limits.of(model.config),
            model.flrc.tokenizer,
            model.flrc.plans,
            _form(model, model.flrc.record),
            model.flrc.record,
        )


def _whole(model: CompressedModel) -> CompressedModel:
    """The model with its companions, also if it was given as a run's stages pass it on."""
    companions = getattr(model, "flrc", None)
    return as_model(loaded_of(model), companions.record if companions is not None else None)


def _form(model: nn.Module, record: Record | None) -> Form:
    """The form that its layers have; the bound of pivoted ones is in the record."""
    if not any(isinstance(layer, PivotedLinear) for layer in model.modules()):
        return TwoFactor()
    known = {} if record is None else (record.run.get("config") or {}).get("form") or {}
    return Pivoted(bound=known["bound"]) if known.get("name") == Pivoted.name else Pivoted()


@torch.no_grad()
def head_outputs(model: PreTrainedModel) -> Float[Tensor, "probes vocabulary"]:
    """The logits of some random states, in float32 and host memory: two heads are compared by them.

    Raises:
        UserError: If the model has no head of its own.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise UserError(
            "the model has no head that makes logits of its last hidden states",
            given=type(model).__name__,
            allowed="a causal language model with output embeddings",
        )
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(PROBES, head.weight.shape[1], generator=draw)
    return head_of(model)(states.to(model.device, model.dtype)).float().cpu()
