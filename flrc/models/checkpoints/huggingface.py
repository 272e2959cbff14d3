"""Compressed models under ``transformers``' own names: ``AutoConfig``, ``AutoModelForCausalLM``.

A checkpoint's config is the base model's with ``model_type`` set to ``flrc`` and the base's own
type beside it. Config and model are subclasses of the base's, so whatever ``transformers`` does
with the base (caches, attention kernels, tied weights, device maps) it does with them.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from flrc.core.dtypes import DTYPES
from flrc.errors import UserError, choose
from flrc.models.checkpoints.assembly import fill, read_tensors
from flrc.models.checkpoints.generation_settings import generation_settings
from flrc.models.checkpoints.manifest import (
    CONFIG,
    GENERATION,
    blaming,
    json_object,
    read_description,
    reason,
)
from flrc.models.layers.switching import Switch, activate
from flrc.plans.run_plans import Plans

MODEL_TYPE = "flrc"
BASE = "base_model_type"
"""Key of the config that holds the base's own ``model_type``."""
ALIGNMENT = 64
"""Bytes to which torch aligns what it allocates on a CPU."""
HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Arguments that say how a model is fetched from the hub."""
UNREAD = (
    "_from_auto", "_from_pipeline", "adapter_kwargs", "low_cpu_mem_usage",
    "trust_remote_code", "use_safetensors", "weights_only", "_commit_hash", "code_revision",
)  # fmt: skip
"""Arguments of ``from_pretrained`` that change nothing here."""


@cache
def config_class(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The base's config class, under the model type of compressed models."""
    made: type[PreTrainedConfig] = type(
        f"Flrc{base.__name__}",
        (base,),
        {"__module__": __name__, "__annotations__": {}, "model_type": MODEL_TYPE},
    )
    AutoModelForCausalLM.register(made, FlrcForCausalLM, exist_ok=True)  # type: ignore[arg-type]
    return made


@cache
def model_class(config: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    """The base's causal language model, which generates under its schedule."""
    base = MODEL_FOR_CAUSAL_LM_MAPPING[config.__bases__[0]]
    # Under the base's name and module: by those transformers chooses caches, attention kernels and
    # losses, and pipelines know what they support.
    names = {"__module__": base.__module__, "config_class": config}
    made: type[PreTrainedModel] = type(base.__name__, (Scheduled, base), names)
    return made


class FlrcConfig(PreTrainedConfig):  # type: ignore[misc]
    """Makes the config of a compressed model; what it makes is of the base's class."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config of the base's class with these fields.

        Raises:
            UserError: If the base is no causal language model of ``transformers``, or a field is
                none of its own.
        """
        base = config_dict.get(BASE)
        if not _known(base):
            raise UserError(
                f"the compressed model's {CONFIG} names no base that transformers knows",
                given=f"{BASE}: {base!r}",
                allowed="a causal language model's type in transformers, such as llama or qwen2",
            )
        fields = {key: value for key, value in config_dict.items() if key != "model_type"}
        try:
            return config_class(CONFIG_MAPPING[base]).from_dict(fields, **kwargs)
        except Exception as error:  # each model type checks its fields in its own way
            raise UserError(
                f"the compressed model's {CONFIG} is no {base} model's", given=reason(error)
            ) from error


class FlrcForCausalLM:
    """Loads a compressed model; what it loads is of the base's class, and :class:`Scheduled`."""

    @classmethod
    def register_for_auto_class(cls, auto_class: object = None) -> None:
        """Nothing: the file is already beside the weights."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        max_memory: Any = None,
        attn_implementation: str | None = None,
        **options: Any,
    ) -> PreTrainedModel:
        """A checkpoint that a run with ``model.save=true`` has written.

        Args:
            pretrained_model_name_or_path: The folder, or a repository of the hub.
            config: Its config; read from the folder if not given.
            dtype: Of everything that is stored in floating point; ``auto`` or None: as stored.
            torch_dtype: The older name of the same.
            device_map: As in ``transformers``; None: the CPU.
            max_memory: As in ``transformers``, with ``device_map="auto"``.
            attn_implementation: As in ``transformers``.
            options: How the repository is fetched; what changes nothing is let through.

        Raises:
            UserError: If a file is damaged or missing, the files do not fit each other, or models
                have no such dtype.
            ValueError: If the base does not know the attention that is asked for.
            TypeError: If an option is known to ``from_pretrained`` and cannot be kept here.
        """
        folder = _folder(pretrained_model_name_or_path, options)
        odd = sorted(k for k, v in options.items() if k not in (*HUB, *UNREAD) and v is not None)
        if odd:
            raise TypeError(f"compressed models are not loaded with {', '.join(odd)}")
        wanted = dtype if dtype is not None else torch_dtype
        if isinstance(wanted, str) and wanted != "auto":
            wanted = getattr(torch, choose("dtype", wanted.removeprefix("torch."), DTYPES))
        description = read_description(folder)
        files = os.listdir(folder) if description["format"] == 2 else description["files"]
        tensors = read_tensors(folder, files)
        stored = getattr(torch, description["dtype"])
        asked = attn_implementation or getattr(config, "_attn_implementation", None)
        with blaming(folder, CONFIG):
            if config is None:
                config = read_config(folder, description["format"])
            config.validate()  # what the base does not know of was not, and is read all the same
            _check_layers(config, len(tensors))
        # What the caller asks for beyond the config is not the config's fault.
        with nullcontext() if asked else blaming(folder, CONFIG):
            model = empty(config, stored, attn_implementation)
        model.plans = fill(model, description, tensors, folder)  # type: ignore[assignment]
        if GENERATION in files:
            with blaming(folder, GENERATION):
                model.generation_config = generation_settings(json_object(folder / GENERATION))
        if wanted not in (None, "auto"):
            model.to(wanted)  # type: ignore[arg-type, call-overload]
        return _placed(model.eval(), device_map, max_memory)


class Scheduled:
    """Mixed into a causal language model: ``generate`` runs under the checkpoint's schedule.

    A plain forward call runs on the constant plan, as perplexity and zero-shot accuracy do.
    """

    plans: Plans

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """As in ``transformers``; the ranks follow the schedule, one forward call a token.

        Shares of the schedule are of the longest reply that the options allow.

        Raises:
            ValueError: If a beam search or assisted decoding is asked for under a schedule.
        """
        plain = super().generate  # type: ignore[misc]
        if len(self.plans.phases) == 1 and self.plans.phases[0][1] == self.plans.constant:
            return plain(inputs, generation_config=generation_config, **options)
        settings = generation_config or self.generation_config  # type: ignore[attr-defined]

        def setting(name: str) -> Any:
            return options.get(name, getattr(settings, name, None))

        speculative = setting("prompt_lookup_num_tokens") or options.get("assistant_model")
        if (setting("num_beams") or 1) > 1 or speculative:
            raise ValueError("beam search and assisted decoding cannot follow a schedule")
        steps = setting("max_new_tokens")
        if steps is None:
            ids = inputs if inputs is not None else options.get("input_ids")
            prompt = 0 if ids is None else int(ids.shape[1])
            steps = max(1, (setting("max_length") or 20 + prompt) - prompt)
        # A switch of ranks would compile in the middle of a reply.
        options["disable_compile"] = True
        handle = self.register_forward_pre_hook(Switch(self, self.plans.by_step(steps), None))  # type: ignore[attr-defined, arg-type]
        try:
            return plain(inputs, generation_config=generation_config, **options)
        finally:
            handle.remove()
            activate(self, self.plans.constant)  # type: ignore[arg-type]

    def generate_at_one_rank(self, *arguments: Any, **options: Any) -> Any:
        """``generate`` as the base has it, at whatever ranks are active."""
        return super().generate(*arguments, **options)  # type: ignore[misc]

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Not written again: the folder it came from is the checkpoint.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "copy the checkpoint's folder; a dense one is written by python -m flrc.export"
        )


def read_config(folder: Path, version: int) -> PreTrainedConfig:
    """The config of a checkpoint; no code of the folder is run, whatever it says.

    Args:
        folder: The checkpoint.
        version: Its format; 2 kept the base's own model type.

    Raises:
        ValueError: If its model type is none that is expected.
    """
    fields = json_object(folder / CONFIG)
    kind = fields.get("model_type")
    if kind != MODEL_TYPE and not (version == 2 and _known(kind)):
        raise ValueError(f"its model_type is {kind!r}, not {MODEL_TYPE!r}")
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    return config


def _known(kind: object) -> bool:
    """Whether this is a model type that ``transformers`` has a causal language model for."""
    return (
        isinstance(kind, str)
        and kind in CONFIG_MAPPING
        and CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING
    )


def _check_layers(config: PreTrainedConfig, tensors: int) -> None:
    """A number of layers that no file backs would be built one by one, for hours."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= tensors:
        raise ValueError(f"num_hidden_layers is {layers!r}, and there are {tensors} tensors")


def empty(
    config: PreTrainedConfig, dtype: torch.dtype, attention: str | None = None
) -> PreTrainedModel:
    """The dense model of a config on the meta device; of :class:`Scheduled` for one of ours."""
    from accelerate import init_empty_weights

    options = {} if attention is None else {"attn_implementation": attention}
    with init_empty_weights(include_buffers=False):
        if config.model_type == MODEL_TYPE:
            model = model_class(type(config))._from_config(  # type: ignore[arg-type]
                config, dtype=dtype, **options
            )
        else:  # format 2 kept the base's own type
            model = AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=False, **options
            )
    return model  # type: ignore[no-any-return]


def _folder(name: str | Path, options: dict[str, Any]) -> Path:
    """Where the files are; a repository of the hub is fetched.

    Raises:
        UserError: If it is a path where no folder is, or the repository cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    within = options.pop("subfolder", None) or ""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        chosen = {key: options[key] for key in HUB if options.get(key) is not None}
        try:
            if isinstance(name, Path) or os.path.lexists(folder) or name.startswith((".", "~")):
                raise NotADirectoryError(f"{folder} is no folder")
            validate_repo_id(name)
            folder = Path(snapshot_download(name, **chosen))
        except (OSError, ValueError) as error:
            raise UserError(
                "there is no such compressed model",
                given=f"{name} ({reason(error)})",
                allowed="a folder, or a repository of the hub: OWNER/NAME",
            ) from error
    return folder / within


def _placed(model: PreTrainedModel, device_map: Any, max_memory: Any) -> PreTrainedModel:
    """The model on its devices."""
    if device_map is None:
        return _aligned(model)
    if not isinstance(device_map, str | dict):
        device_map = {"": device_map}
    if isinstance(device_map, str) and device_map not in ("auto", "balanced", "sequential"):
        return _aligned(model.to(device_map))  # type: ignore[arg-type]
    from accelerate import dispatch_model, infer_auto_device_map

    if isinstance(device_map, str):
        whole = model._no_split_modules or []
        device_map = infer_auto_device_map(model, max_memory, no_split_module_classes=list(whole))
    if set(device_map) == {""}:
        return _aligned(model.to(device_map[""]))  # type: ignore[arg-type]
    placed: PreTrainedModel = dispatch_model(model, device_map)
    return placed


def _aligned(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its CPU tensors where torch itself would have put them.

    Those that are mapped from a file begin anywhere; a processor then takes another kernel, and
    logits differ in their last digits from those of the model that was saved.
    """
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None or tensor.device.type != "cpu" or tensor.data_ptr() % ALIGNMENT == 0:
                continue
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in copies:
                copies[key] = tensor.data.clone()
            tensor.data = copies[key]
    return model


AutoConfig.register(MODEL_TYPE, FlrcConfig, exist_ok=True)
