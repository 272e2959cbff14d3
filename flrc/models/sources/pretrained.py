"""What the sources share that load saved files with ``from_pretrained``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.digests import file_digest
from flrc.core.library_output import without_bars
from flrc.errors import UserError
from flrc.models.checkpoints.manifest import reason
from flrc.models.checkpoints.model_files import (
    CONFIG,
    tokenizer_files,
    vocabulary_files,
    weight_files,
)
from flrc.models.checkpoints.vocabulary import check_vocabulary, no_vocabulary
from flrc.models.sources.base import ModelSource, hub_id_of, license_of
from flrc.models.sources.file_inspection import inspect, inspect_gguf, refuse_quantized
from flrc.models.sources.weight_headers import damaged

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.core.cache import StageCache

log = logging.getLogger(__name__)

IGNORED = "ignored.json"
"""In a converted model: names of the original's tensors that the model does not use."""
MEMORY = re.compile(r"out of memory|not enough memory|can(no|')t allocate memory", re.IGNORECASE)
"""Torch's messages when memory runs out; the files are not at fault then."""


@dataclass
class Pretrained(ModelSource):
    """A source that loads with ``from_pretrained``."""

    def __post_init__(self) -> None:
        self._converted: Path | None = None
        self._ignored: list[str] = []
        super().__post_init__()

    @abstractmethod
    def _place(self) -> Path | None:
        """The folder or GGUF file; None if it is not on this machine."""

    def _source(self) -> dict[str, Any]:
        """The arguments of ``from_pretrained`` that locate the model."""
        place = self._place()
        assert place is not None
        if place.is_file():
            return {"pretrained_model_name_or_path": str(place.parent), "gguf_file": place.name}
        return {"pretrained_model_name_or_path": str(place)}

    @property
    def ignored(self) -> list[str]:
        """Names of the checkpoint's tensors that the loaded model does not use."""
        return self._ignored

    @property
    def where(self) -> str:
        """The model's name in messages: its path, or its label."""
        return str(self._folder() or self._place() or self.label)

    def origin(self) -> dict[str, str]:
        """The Hub's id of a snapshot in its cache, and the licence in the card beside the files."""
        place = self._place()
        if place is None:
            return {}
        folder = place.parent if place.is_file() else place
        known = {"id": hub_id_of(folder), "license": license_of(folder)}
        return {key: value for key, value in known.items() if value}

    def _location(self) -> dict[str, Any]:
        converted = self._converted
        return {"pretrained_model_name_or_path": str(converted)} if converted else self._source()

    def _folder(self) -> Path | None:
        """The folder that is loaded from; None for a GGUF file, or before a download."""
        place = self._converted or self._place()
        return None if place is None or place.is_file() else place

    def convert(self, cache: StageCache, dtype: str) -> None:
        """Dequantize a GGUF file to safetensors of the run's dtype, in the cache.

        ``transformers`` takes most of a minute for each load of a GGUF file, and a second for the
        same tensors in safetensors.
        """
        if "gguf_file" not in self._source():
            return
        inputs = {
            "fingerprint": self.fingerprint(),
            "dtype": dtype,
            "transformers": importlib.metadata.version("transformers"),
            "version": 2,  # version 1 kept random values for missing tensors
        }
        self._converted = None
        entry = cache.entry("converted", inputs)
        with entry.lock():
            if entry.done and not _sound(entry.path):
                log.warning("%s is damaged and will be converted again", entry.path)
                entry.clear()
            if not entry.done:
                log.info("dequantizing the GGUF file of %s, once", self.label)
                place = self._place()
                assert place is not None
                cache.require_space(8 * place.stat().st_size, f"{self.label} dequantized")
                model = self.load(dtype)
                with without_bars():
                    model.save_pretrained(entry.path)
                del model
                self.tokenizer().save_pretrained(entry.path)
                if self.ignored:
                    entry.write_json(IGNORED, self.ignored)
                entry.finish()
            elif entry.has(IGNORED):
                self._note(entry.read_json(IGNORED))
        self._converted = entry.path

    def check_available(self) -> None:
        """The model is on this machine; its files are complete and those of a dense model."""
        self._check_files(weights=True)

    def _check_files(self, weights: bool) -> None:
        place = self._place()
        if place is not None and place.is_file():
            inspect_gguf(place)
        elif place is not None:
            inspect(place, weights)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that is stored with the model."""
        from transformers import AutoTokenizer

        location = self._location()
        with self._access(location, "tokenizer"):
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                **location, trust_remote_code=False
            )
            folder = self._folder()
            if "gguf_file" not in location and folder is not None:
                check_vocabulary(tokenizer, folder)
            tokenizer("a")  # some settings, such as lengths, are only read on use
        return tokenizer

    def config(self) -> PretrainedConfig:
        """The stored config; UserError if it is not of a dense causal language model."""
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

        location = self._location()
        with self._access(location, CONFIG):
            config: PretrainedConfig = AutoConfig.from_pretrained(
                **location, trust_remote_code=False
            )
        where = ", ".join(self._files_of(CONFIG)) or f"{self.label}: {CONFIG}"
        if "gguf_file" not in location:
            refuse_quantized(config.to_dict(), where)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise UserError(
                "the model is not a causal language model",
                given=f"{where} (model_type: {config.model_type})",
                allowed="a model that AutoModelForCausalLM loads, such as llama or qwen2",
            )
        return config

    def load(self, dtype: str) -> PreTrainedModel:
        """The stored weights; a GGUF file is dequantized.

        Raises:
            UserError: If a file is damaged, or its tensors do not match the config.
        """
        import torch

        from flrc.models.sources.tensor_matching import from_pretrained, unread_gguf, unused_tensors

        location = self._location()
        if "gguf_file" not in location:  # opening a GGUF file is slow, and loading checks as much
            self.config()
        with self._access(location, "weights"):
            model, info = from_pretrained(location, getattr(torch, dtype))
        folder, tensors = self._folder(), None
        if "gguf_file" in location:
            info["unexpected_keys"] |= unread_gguf(model, self.where)
        elif folder is not None:
            tensors = inspect(folder)  # a model from the Hub has been downloaded only now
        self._note(unused_tensors(model, info, self.where, tensors))
        # Dequantized weights are plain weights; save_pretrained would refuse them with this entry.
        if hasattr(model.config, "quantization_config") and "gguf_file" in location:
            del model.config.quantization_config
            model.hf_quantizer = None
        return model

    def _note(self, ignored: list[str]) -> None:
        """Warn once about tensors that are ignored."""
        if ignored and not self.ignored:
            self._ignored = ignored
            names = ", ".join(ignored[:10]) + ", ..." * (len(ignored) > 10)
            message = (
                "%s: %d tensors of the checkpoint are not part of the model and are ignored: %s"
            )
            log.warning(message, self.label, len(ignored), names)

    @contextmanager
    def _access(self, location: dict[str, Any], part: str) -> Iterator[None]:
        """Turn a failure while loading a part into a UserError that names the file."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # parsers of other packages raise many kinds of errors
            if isinstance(error, MemoryError) or MEMORY.search(str(error)):
                raise
            self._check_files(weights=part == "weights")
            folder, place = self._folder(), self._place()
            if folder is None and place is not None:
                raise damaged(place, reason(error)) from error
            if part == "tokenizer" and folder is not None and not vocabulary_files(folder):
                raise no_vocabulary(folder, "tokenizer.json") from error
            raise UserError(
                f"the {self.name} model {self.label} cannot be loaded: {reason(error)}",
                given=", ".join(self._files_of(part))
                or ", ".join(f"{key}={value}" for key, value in location.items()),
                allowed="a causal language model's config, weights and tokenizer; no remote code",
                fix="without a network use model=smollm2_135m or a saved model, model=./FOLDER",
            ) from error

    def _files_of(self, part: str) -> list[str]:
        """The files that a config, a tokenizer or weights are read from, as far as known."""
        place = self._converted or self._place()
        if place is None or place.is_file():
            return [] if place is None else [str(place)]
        if part == CONFIG:
            return [str(place / CONFIG)]
        files = tokenizer_files(place) if part == "tokenizer" else weight_files(place)
        return [str(path) for path in files] or [str(place)]


def fingerprint_of(files: Sequence[Path]) -> str:
    """Digest of the names and contents of files, in their order."""
    lines = [f"{path.name} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _sound(folder: Path) -> bool:
    with suppress(UserError):
        inspect(folder)
        return True
    return False
