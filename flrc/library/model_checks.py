"""Checks that a model in memory can be rebuilt from its class, config and tensors."""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedModel

from flrc.core.dtypes import DTYPES
from flrc.errors import UserError
from flrc.models.anatomy.finite_weights import check_finite
from flrc.models.checkpoints.huggingface import MODEL_TYPE
from flrc.models.layers.compressed_layers import compressed_layers


def check_model(model: Any) -> None:
    """Check that it is a dense causal language model, complete, of one dtype, on one device.

    Raises:
        UserError: If it is not, or its class and config would make another model.
    """

    def refuse(problem: str, given: str, allowed: str, fix: str | None = None) -> UserError:
        return UserError(problem, given=given, allowed=allowed, fix=fix)

    dense = "a causal language model of transformers in memory, or a name of conf/model"
    if not isinstance(model, PreTrainedModel):
        raise refuse("this is not a model of transformers", type(model).__name__, dense)
    if model.config.model_type == MODEL_TYPE or compressed_layers(model):
        raise refuse("the model is compressed already", type(model).__name__, "a dense model")
    known = type(model.config) in MODEL_FOR_CAUSAL_LM_MAPPING
    expected = MODEL_FOR_CAUSAL_LM_MAPPING[type(model.config)] if known else ()
    if not isinstance(model, expected):
        raise refuse(
            "the model is not a causal language model",
            type(model).__name__,
            dense,
            "load it with AutoModelForCausalLM",
        )
    _check_code(model, expected if isinstance(expected, tuple) else (expected,))
    devices = {str(tensor.device) for tensor in model.state_dict().values()}
    if "meta" in devices:
        raise refuse("the model has no weights", "tensors on the meta device", "a loaded model")
    if len(devices) > 1:
        raise refuse(
            "the model is spread over several devices",
            f"device={', '.join(sorted(devices))}",
            "a model on one device",
            "model.to(device); if it does not fit, give it by name with placement=host",
        )
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        raise refuse(
            "the model's parameters do not all have the same supported dtype",
            f"dtype={', '.join(sorted(dtypes))}",
            f"one of {', '.join(DTYPES)}",
            "model.to(torch.float32)",
        )
    _check_shapes(model)
    check_finite(model, type(model).__name__)


def _check_code(model: PreTrainedModel, expected: tuple[type, ...]) -> None:
    """Check that it computes what its class does; wrappers that compile or move it are accepted."""
    changed = None if type(model) in expected else type(model).__name__
    for name, module in model.named_modules():
        forward = vars(module).get("forward")
        function = getattr(forward, "__func__", forward)
        compiled = hasattr(forward, "_torchdynamo_orig_callable")
        own = isinstance(function, FunctionType) and function is not type(module).forward
        if own and not compiled:
            changed = changed or f"{name or type(model).__name__}.forward"
    if changed is not None:
        raise UserError(
            "the model's code differs from its class in transformers",
            given=f"{changed}, which would be rebuilt as {expected[0].__name__}",
            allowed="a model as AutoModelForCausalLM makes it",
            fix="give it without changes to its code",
        )


def _check_shapes(model: PreTrainedModel) -> None:
    """Check that its tensors fit its config, from which it is rebuilt when the result is loaded."""
    try:
        with torch.device("meta"):
            rebuilt = AutoModelForCausalLM.from_config(model.config)
    except Exception as error:  # the config is the caller's and may raise anything
        raise UserError(
            "no model can be built from the model's config",
            given=f"{type(model.config).__name__}: {type(error).__name__}: {error}",
            allowed="a config from which the model can be rebuilt",
            fix="change the config with the model",
        ) from error
    given, expected = (
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()}
        for one in (model, rebuilt)
    )
    for name in [*expected, *given]:
        if given.get(name) != expected.get(name):
            raise UserError(
                "the model does not match its config",
                given=f"{name}: {given.get(name, 'missing')}",
                allowed=f"{name}: {expected.get(name, 'missing')}",
                fix="merge adapters, and change the config with the model",
            )
