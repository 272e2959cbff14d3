"""Whether a model in memory is one that can be built again from its class, config and tensors."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from flrc.core.dtypes import DTYPES
from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_model(model: Any) -> None:
    """It is a dense causal language model, whole, of one dtype, on one device.

    Raises:
        UserError: If it is none, or not the one that its class and config make.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

    from flrc.models.anatomy.finite_weights import check_finite
    from flrc.models.checkpoints.huggingface import MODEL_TYPE
    from flrc.models.layers.compressed_layers import compressed_layers

    def refuse(problem: str, given: str, allowed: str, fix: str | None = None) -> UserError:
        return UserError(problem, given=given, allowed=allowed, fix=fix)

    dense = "a causal language model of transformers in memory, or a name of conf/model"
    if not isinstance(model, PreTrainedModel):
        raise refuse("the model is none", type(model).__name__, dense)
    if model.config.model_type == MODEL_TYPE or compressed_layers(model):
        raise refuse("the model is compressed already", type(model).__name__, "a dense model")
    known = type(model.config) in MODEL_FOR_CAUSAL_LM_MAPPING
    expected = MODEL_FOR_CAUSAL_LM_MAPPING[type(model.config)] if known else ()
    if not isinstance(model, expected):
        raise refuse(
            "the model is no causal language model",
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
            "the model lies on several devices",
            f"device={', '.join(sorted(devices))}",
            "a model on one device",
            "model.to(device); or by name with placement=host, where it does not fit",
        )
    dtypes = {str(weight.dtype).removeprefix("torch.") for weight in model.parameters()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        raise refuse(
            "the model's parameters are not of one floating dtype",
            f"dtype={', '.join(sorted(dtypes))}",
            f"one of {', '.join(DTYPES)}",
            "model.to(torch.float32)",
        )
    _check_shapes(model)
    check_finite(model, type(model).__name__)


def _check_code(model: PreTrainedModel, expected: tuple[type, ...]) -> None:
    """It computes what its class does: from config and tensors no other code can be built again.

    What compiles, moves or watches a forward pass wraps it, and does not count.
    """
    changed = None if type(model) in expected else type(model).__name__
    for name, module in model.named_modules():
        forward = vars(module).get("forward")
        own = getattr(forward, "__func__", forward)
        compiled = hasattr(forward, "_torchdynamo_orig_callable")
        if isinstance(own, FunctionType) and own is not type(module).forward and not compiled:
            changed = changed or f"{name or type(model).__name__}.forward"
    if changed is not None:
        raise UserError(
            "the model computes something else than its class in transformers",
            given=f"{changed}, which is built again as {expected[0].__name__}",
            allowed="a model as AutoModelForCausalLM makes it",
            fix="give it without changes to its code",
        )


def _check_shapes(model: PreTrainedModel) -> None:
    """It is what its config says: from that it is built again when the result is loaded."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            plain = AutoModelForCausalLM.from_config(model.config)
    except Exception as error:  # of whatever kind: the config is the caller's
        raise UserError(
            "the model's config makes no model",
            given=f"{type(model.config).__name__}: {type(error).__name__}: {error}",
            allowed="a config from which the model can be built again",
            fix="change the config with the model",
        ) from error
    found, expected = (
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()}
        for one in (model, plain)
    )
    for name in [*expected, *found]:
        if found.get(name) != expected.get(name):
            raise UserError(
                "the model is not what its config says",
                given=f"{name}: {found.get(name, 'not there')}",
                allowed=f"{name}: {expected.get(name, 'not there')}",
                fix="merge adapters, and change the config with the model",
            )
