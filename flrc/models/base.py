"""What a model source is, and what those share that load saved files."""

from __future__ import annotations

import importlib.metadata
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.component import Component
from flrc.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.cache import StageCache

log = logging.getLogger(__name__)


@dataclass
class ModelSource(Component, ABC):
    """Loads a causal language model of the Hugging Face kind.

    Attributes:
        label: The name that folders and tables use.
        save: Whether the compressed model is written into the run's folder.
        partial: Whether it is compressed even if much of its decoder blocks is no linear layer.
    """

    label: str = ""
    save: bool = False
    partial: bool = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of weights, config and tokenizer (or of the revision that fixes them)."""

    @abstractmethod
    def check_available(self) -> None:
        """Raise UserError, with the command that provides it, if the model is not there."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""

    @abstractmethod
    def config(self) -> PretrainedConfig:
        """The model's config; no weight is read."""

    @abstractmethod
    def load(self, dtype: str) -> PreTrainedModel:
        """The model with its weights, on the CPU."""

    def convert(self, cache: StageCache, dtype: str) -> None:
        """Bring the files into a form that loads fast, once; nothing to do for most sources."""


@dataclass
class Pretrained(ModelSource):
    """What the sources share that load through ``from_pretrained``."""

    @abstractmethod
    def _source(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that say where the model is."""

    def _location(self) -> dict[str, Any]:
        converted: Path | None = getattr(self, "_converted", None)
        if converted is not None:
            return {"pretrained_model_name_or_path": str(converted)}
        return self._source()

    def convert(self, cache: StageCache, dtype: str) -> None:
        """De-quantise a GGUF file to safetensors of the run's dtype, in the cache.

        Reading GGUF takes transformers most of a minute, for each load; the same tensors load from
        safetensors in a second.
        """
        if "gguf_file" not in self._source():
            return
        inputs = {
            "fingerprint": self.fingerprint(),
            "dtype": dtype,
            "transformers": importlib.metadata.version("transformers"),
        }
        entry = cache.entry("converted", inputs)
        with entry.lock():
            if not entry.done:
                log.info("de-quantising the GGUF file of %s, once", self.label)
                size = next(iter(self._files())).stat().st_size
                cache.require_space(8 * size, f"{self.label} de-quantised")
                self.load(dtype).save_pretrained(entry.path)
                self.tokenizer().save_pretrained(entry.path)
                entry.finish()
        self._converted = entry.path

    def _files(self) -> list[Path]:
        """The model's files, where they are known."""
        return []

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that is stored with the model."""
        from transformers import AutoTokenizer

        location = self._location()
        with self._access(location):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                **location, trust_remote_code=False
            )
        return tokenizer

    def config(self) -> PretrainedConfig:
        """The config that is stored with the model."""
        from transformers import AutoConfig

        location = self._location()
        with self._access(location):
            config: PretrainedConfig = AutoConfig.from_pretrained(
                **location, trust_remote_code=False
            )
        return config

    def load(self, dtype: str) -> PreTrainedModel:
        """The stored weights; a GGUF file is de-quantised."""
        import torch
        import transformers
        from transformers import AutoModelForCausalLM

        transformers.utils.logging.disable_progress_bar()  # one bar at a time, and it is ours
        location = self._location()
        with self._access(location):
            model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                **location, dtype=getattr(torch, dtype), trust_remote_code=False
            )
        # De-quantised weights are plain weights; the entry would make save_pretrained refuse.
        if hasattr(model.config, "quantization_config") and "gguf_file" in location:
            del model.config.quantization_config
            model.hf_quantizer = None
        return model

    @contextmanager
    def _access(self, location: dict[str, Any]) -> Iterator[None]:
        """Where loading happens: a failure becomes an error the user can act on."""
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"the {self.name} model {self.label} cannot be loaded: {reason}",
                given=", ".join(f"{key}={value}" for key, value in location.items()),
                allowed="a causal language model's config, weights and tokenizer; no remote code",
                fix="without a network use model=smollm2_135m or model=local model.path=FOLDER",
            ) from error
