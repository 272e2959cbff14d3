"""Compressed models for ``AutoConfig`` and ``AutoModelForCausalLM``; importing it registers them.

A checkpoint's config is the base model's with ``model_type`` set to ``flrc``; the base's own type
is kept beside it. Config and model are subclasses of the base's, so they support whatever
``transformers`` supports for the base: caches, attention kernels, tied weights, device maps.

The last module of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import snapshot_download
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
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
from flrc.models.checkpoints.assembly import assemble, read_tensors
from flrc.models.checkpoints.device_placement import placed
from flrc.models.checkpoints.generation_settings import generation_settings
from flrc.models.checkpoints.manifest import (
    CONFIG,
    GENERATION,
    blaming,
    json_object,
    read_manifest,
    reason,
    refusing,
)
from flrc.models.layers.switching import Switch, activate
from flrc.plans.run_plans import Plans

MODEL_TYPE = "flrc"
BASE = "base_model_type"
"""Key of the config that holds the base's own ``model_type``."""
HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Arguments that say how a model is downloaded from the Hub."""
UNREAD = (
    "_from_auto", "_from_pipeline", "adapter_kwargs", "low_cpu_mem_usage",
    "trust_remote_code", "use_safetensors", "weights_only", "_commit_hash", "code_revision",
)  # fmt: skip
"""Arguments of ``from_pretrained`` that have no effect here."""


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
    return scheduled_class(MODEL_FOR_CAUSAL_LM_MAPPING[config.__bases__[0]], config)  # type: ignore[arg-type]


@cache
def scheduled_class(
    base: type[PreTrainedModel], config: type[PreTrainedConfig]
) -> type[PreTrainedModel]:
    """A subclass of a model's class that generates under its schedule, with this config class."""
    # It keeps the base's name and module: transformers looks up caches, attention kernels, losses
    # and pipeline support by them.
    names = {"__module__": base.__module__, "config_class": config}
    made: type[PreTrainedModel] = type(base.__name__, (Scheduled, base), names)
    return made


class FlrcConfig(PreTrainedConfig):  # type: ignore[misc]
    """Builds the config of a compressed model, an instance of a subclass of the base's config."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config of the base's class; UserError if ``transformers`` has none of these fields."""
        base = config_dict.get(BASE)
        if not _known(base):
            raise UserError(
                f"the compressed model's {CONFIG} names a base that transformers does not know",
                given=f"{BASE}: {base!r}",
                allowed="a model type of transformers with a causal language model, "
                "such as llama or qwen2",
            )
        fields = {key: value for key, value in config_dict.items() if key != "model_type"}
        problem = f"the compressed model's {CONFIG} is not a valid {base} config"
        with refusing(lambda why: UserError(problem, given=why)):
            return config_class(CONFIG_MAPPING[base]).from_dict(fields, **kwargs)


class FlrcForCausalLM:
    """Loads a compressed model: an instance of the base's class mixed with :class:`Scheduled`."""

    @classmethod
    def register_for_auto_class(cls, auto_class: object = None) -> None:
        """Does nothing: the code already lies beside the weights."""

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
        """Load a checkpoint that ``flrc.save`` or a run with ``model.save=true`` wrote.

        Args:
            pretrained_model_name_or_path: The folder, or a repository on the Hub.
            config: Its config; read from the folder if not given.
            dtype: Of everything that is stored in floating point; ``auto`` or None: as stored.
            torch_dtype: The older name of ``dtype``.
            device_map: As in ``transformers``; None: the CPU.
            max_memory: As in ``transformers``, with ``device_map="auto"``.
            attn_implementation: As in ``transformers``.
            options: How the repository is downloaded; options without effect are accepted.

        Raises:
            UserError: If a file is damaged or missing, the files do not fit each other, or the
                dtype is not supported.
            ValueError: If the base does not know the requested attention implementation.
            TypeError: If compressed models cannot honour an option of ``from_pretrained``.
        """
        folder = _folder(pretrained_model_name_or_path, options)
        odd = sorted(k for k, v in options.items() if k not in (*HUB, *UNREAD) and v is not None)
        if odd:
            raise TypeError(f"compressed models are not loaded with {', '.join(odd)}")
        requested = dtype if dtype is not None else torch_dtype
        if isinstance(requested, str) and requested != "auto":
            requested = getattr(torch, choose("dtype", requested.removeprefix("torch."), DTYPES))
        manifest = read_manifest(folder)
        tensors = read_tensors(folder, manifest["files"])
        attention = attn_implementation or getattr(config, "_attn_implementation", None)
        with blaming(folder, CONFIG):
            config = config or read_config(folder)
            config.validate()  # fields unknown to the base are not validated on construction
            _check_layers(config, len(tensors))
        # A request of the caller that fails is not the fault of the config.
        with nullcontext() if attention else blaming(folder, CONFIG):
            model = empty(config, getattr(torch, manifest["dtype"]), attn_implementation)
        model.plans = assemble(model, manifest, tensors, folder)  # type: ignore[assignment]
        if GENERATION in manifest["files"]:
            with blaming(folder, GENERATION):
                model.generation_config = generation_settings(json_object(folder / GENERATION))
        if requested not in (None, "auto"):
            model.to(requested)  # type: ignore[arg-type, call-overload]
        return placed(model.eval(), device_map, max_memory)


class Scheduled:
    """Mixed into a causal language model: ``generate`` follows the checkpoint's schedule.

    A plain forward call uses the constant plan, as perplexity and zero-shot accuracy do.
    """

    plans: Plans

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> Any:
        """As in ``transformers``; the ranks follow the schedule, one forward call per token.

        Phases begin at shares of the longest reply that the options allow.

        Raises:
            ValueError: If beam search or assisted decoding is requested under a schedule.
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
        # A change of ranks would trigger a recompilation in the middle of a reply.
        options["disable_compile"] = True
        handle = self.register_forward_pre_hook(Switch(self, self.plans.by_step(steps), None))  # type: ignore[attr-defined, arg-type]
        try:
            return plain(inputs, generation_config=generation_config, **options)
        finally:
            handle.remove()
            activate(self, self.plans.constant)  # type: ignore[arg-type]

    def generate_at_one_rank(self, *arguments: Any, **options: Any) -> Any:
        """The base's ``generate``, at the ranks that are active now."""
        return super().generate(*arguments, **options)  # type: ignore[misc]

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Not supported: ``flrc.save(model, folder)`` writes a checkpoint with its plans."""
        raise NotImplementedError(
            "flrc.save(model, FOLDER) writes it; python -m flrc.export writes a dense model"
        )


def read_config(folder: Path) -> PreTrainedConfig:
    """The config of a checkpoint whose model type is ``flrc``; code in it is never run."""
    kind = json_object(folder / CONFIG).get("model_type")
    if kind != MODEL_TYPE:
        raise ValueError(f"its model_type is {kind!r}, not {MODEL_TYPE!r}")
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )
    return config


def _known(kind: object) -> bool:
    return (
        isinstance(kind, str)
        and kind in CONFIG_MAPPING
        and CONFIG_MAPPING[kind] in MODEL_FOR_CAUSAL_LM_MAPPING
    )


def _check_layers(config: PreTrainedConfig, tensors: int) -> None:
    """Refuse more layers than there are tensors: building them one by one could take hours."""
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if not isinstance(layers, int) or not 0 <= layers <= tensors:
        raise ValueError(f"num_hidden_layers is {layers!r}, and there are {tensors} tensors")


def empty(
    config: PreTrainedConfig, dtype: torch.dtype, attention: str | None = None
) -> PreTrainedModel:
    """The base model of a compressed model's config, dense, on the meta device."""
    options = {} if attention is None else {"attn_implementation": attention}
    with init_empty_weights(include_buffers=False):
        return model_class(type(config))._from_config(config, dtype=dtype, **options)  # type: ignore[arg-type, no-any-return]


def _folder(name: str | Path, options: dict[str, Any]) -> Path:
    """The folder of the files; a repository on the Hub is downloaded."""
    within = options.pop("subfolder", None) or ""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        chosen = {key: options[key] for key in HUB if options.get(key) is not None}
        try:
            if isinstance(name, Path) or os.path.lexists(folder) or name.startswith((".", "~")):
                raise NotADirectoryError(f"{folder} is not a folder")
            validate_repo_id(name)
            folder = Path(snapshot_download(name, **chosen))
        except (OSError, ValueError) as error:
            raise UserError(
                "there is no such compressed model",
                given=f"{name} ({reason(error)})",
                allowed="a folder, or a repository on the Hub: OWNER/NAME",
            ) from error
    return folder / within


AutoConfig.register(MODEL_TYPE, FlrcConfig, exist_ok=True)
