"""Loads a dense model onto its device, in evaluation mode and without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM

from flrc.errors import UserError
from flrc.models.anatomy.finite_weights import check_finite
from flrc.models.anatomy.placement import wait_on_host
from flrc.models.checkpoints.manifest import refusing
from flrc.models.checkpoints.model_files import CONFIG

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.models.sources.base import ModelSource


def load_model(
    source: ModelSource, dtype: str, device: torch.device, placement: str = "device"
) -> PreTrainedModel:
    """The dense model, after checking that its weights are finite.

    Args:
        source: Where it comes from; raises UserError if it cannot be loaded.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        device: Where it goes.
        placement: ``device``: all of it is on the device. ``host``: each decoder block is on the
            device only while it computes.
    """
    model = source.load(dtype)
    check_finite(model, source.where)
    model.eval()
    model.requires_grad_(False)
    if placement == "host":
        wait_on_host(model, device)
        return model
    return model.to(device)  # type: ignore[arg-type, no-any-return, unused-ignore]


def model_shell(source: ModelSource) -> PreTrainedModel:
    """The model without weights (meta device), for checking shapes before any work.

    It uses eager attention, since other implementations read the values of masks, and computes all
    experts, since a router without weights cannot choose.

    Raises:
        UserError: If no model can be built from the config.
    """
    config = source.config()
    if hasattr(config, "quantization_config"):
        del config.quantization_config

    def refusal(why: str) -> UserError:
        return UserError(
            f"no model can be built from the model's {CONFIG}",
            given=f"{source.where}: {type(config).__name__}: {why}",
            allowed="a config from which transformers can build a model",
            fix=f"the {CONFIG} that belongs to these weights",
        )

    with refusing(refusal), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            attn_implementation="eager",
            experts_implementation="batched_mm",
            trust_remote_code=False,
        )
    return model.eval()


def parameter_count(model: torch.nn.Module) -> int:
    """Number of parameters of a model; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
