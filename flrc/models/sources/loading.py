"""A model ready for work: on its device, in evaluation mode, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from flrc.errors import UserError
from flrc.models.checkpoints.manifest import reason
from flrc.models.checkpoints.model_files import CONFIG

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.models.sources.base import ModelSource


def load_model(
    source: ModelSource, dtype: str, device: torch.device, placement: str = "device"
) -> PreTrainedModel:
    """The dense model, whose weights are finite.

    Args:
        source: Where it comes from.
        dtype: ``float32``, ``bfloat16``, ``float16`` or ``float64``.
        device: Where it goes.
        placement: ``device``: whole. ``host``: a decoder block is there only while it computes.

    Raises:
        UserError: If the model cannot be loaded, or a weight is not finite.
    """
    from flrc.models.anatomy.finite_weights import check_finite
    from flrc.models.anatomy.placement import wait_on_host

    model = source.load(dtype)
    check_finite(model, source.where)
    model.eval()
    model.requires_grad_(False)
    if placement == "host":
        wait_on_host(model, device)
        return model
    return model.to(device)  # type: ignore[arg-type, no-any-return, unused-ignore]


def model_shell(source: ModelSource) -> PreTrainedModel:
    """The model without memory behind its weights (meta device): for shapes, before any work.

    Its attention is the one without kernels: others look at the values of masks, and there are
    none; and its experts are all computed, since no router can choose.

    Raises:
        UserError: If the config makes no model.
    """
    from transformers import AutoModelForCausalLM

    config = source.config()
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                config,
                attn_implementation="eager",
                experts_implementation="batched_mm",
                trust_remote_code=False,
            )
    except Exception as error:  # each model reads its fields in its own way
        raise UserError(
            f"the model's {CONFIG} makes no model",
            given=f"{source.where}: {type(config).__name__}: {reason(error)}",
            allowed="a config that transformers can build the model from",
            fix=f"the {CONFIG} that belongs to these weights",
        ) from error
    return model.eval()


def parameter_count(model: torch.nn.Module) -> int:
    """Parameters of a model, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
