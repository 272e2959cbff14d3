"""What a model source is, and what those share that load saved files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.component import Component
from flrc.core.digests import file_digest
from flrc.errors import UserError
from flrc.models.checkpoints.manifest import reason
from flrc.models.checkpoints.model_files import (
    CONFIG,
    tokenizer_files,
    vocabulary_files,
    weight_files,
)
from flrc.models.checkpoints.vocabulary import check_vocabulary, no_vocabulary
from flrc.models.sources import file_inspection
from flrc.models.sources.weight_headers import damaged

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.core.cache import StageCache

log = logging.getLogger(__name__)

IGNORED = "ignored.json"
"""In a converted model: the names of the original's tensors that are not part of it."""
MEMORY = re.compile(r"out of memory|not enough memory|can(no|')t allocate memory", re.IGNORECASE)
"""What torch says where memory runs out; the files are not to blame for that."""


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

    @property
    def ignored(self) -> list[str]:
        """Names of the checkpoint's tensors that the loaded model has no use for."""
        return []

    @property
    def where(self) -> str:
        """What messages call it: its place, or its label."""
        return self.label

    def convert(self, cache: StageCache, dtype: str) -> None:
        """Bring the files into a form that loads fast, once; nothing to do for most sources."""


@dataclass
class Pretrained(ModelSource):
    """What the sources share that load through ``from_pretrained``."""

    @abstractmethod
    def _source(self) -> dict[str, Any]:
        """Arguments of ``from_pretrained`` that say where the model is."""

    @abstractmethod
    def _place(self) -> Path | None:
        """The folder or GGUF file, as far as it is on this machine."""

    @property
    def ignored(self) -> list[str]:
        """Names of the checkpoint's tensors that the loaded model has no use for."""
        return getattr(self, "_ignored", [])

    @property
    def where(self) -> str:
        """What messages call it: its place, or its label."""
        return str(self._folder() or self._place() or self.label)

    def _location(self) -> dict[str, Any]:
        converted: Path | None = getattr(self, "_converted", None)
        if converted is not None:
            return {"pretrained_model_name_or_path": str(converted)}
        return self._source()

    def _folder(self) -> Path | None:
        """The folder that is loaded from; None for a GGUF file, and where there is none yet."""
        place = getattr(self, "_converted", None) or self._place()
        return None if place is None or place.is_file() else place

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
            "version": 2,  # the first kept what had been drawn for tensors that were missing
        }
        self._converted = None
        entry = cache.entry("converted", inputs)
        with entry.lock():
            if entry.done and not _sound(entry.path):
                log.warning("%s is damaged; it is made again", entry.path)
                entry.clear()
            if not entry.done:
                log.info("de-quantising the GGUF file of %s, once", self.label)
                place = self._place()
                assert place is not None
                cache.require_space(8 * place.stat().st_size, f"{self.label} de-quantised")
                self.load(dtype).save_pretrained(entry.path)
                self.tokenizer().save_pretrained(entry.path)
                if self.ignored:
                    entry.write_json(IGNORED, self.ignored)
                entry.finish()
            elif entry.has(IGNORED):
                self._note(entry.read_json(IGNORED))
        self._converted = entry.path

    def check_files(self, weights: bool = True) -> None:
        """Raise UserError if a file that is on this machine is damaged, or is no dense model's.

        Args:
            weights: Whether the weights have to be there.
        """
        place = self._place()
        if place is not None and place.is_file():
            file_inspection.inspect_gguf(place)
        elif place is not None:
            file_inspection.inspect(place, weights)

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
            tokenizer("a")  # what its settings say of lengths is read only now
        return tokenizer

    def config(self) -> PretrainedConfig:
        """The config that is stored with the model.

        Raises:
            UserError: If it is none of a dense causal language model.
        """
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

        location = self._location()
        with self._access(location, CONFIG):
            config: PretrainedConfig = AutoConfig.from_pretrained(
                **location, trust_remote_code=False
            )
        where = ", ".join(self._files_of(CONFIG)) or f"{self.label}: {CONFIG}"
        if "gguf_file" not in location:
            file_inspection.refuse_quantised(config.to_dict(), where)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise UserError(
                "the model is no causal language model",
                given=f"{where} (model_type: {config.model_type})",
                allowed="a model that AutoModelForCausalLM loads, such as llama or qwen2",
            )
        return config

    def load(self, dtype: str) -> PreTrainedModel:
        """The stored weights; a GGUF file is de-quantised.

        Raises:
            UserError: If a file is damaged, or the tensors are not those of the config.
        """
        import torch

        from flrc.models.sources.tensor_matching import from_pretrained, unread_gguf, unused_tensors

        location = self._location()
        if "gguf_file" not in location:  # a GGUF file takes long to open, and says the same
            self.config()
        with self._access(location, "weights"):
            model, info = from_pretrained(location, getattr(torch, dtype))
        folder, tensors = self._folder(), None
        if "gguf_file" in location:
            info["unexpected_keys"] |= unread_gguf(model, self.where)
        elif folder is not None:
            tensors = file_inspection.inspect(folder)  # a model of the hub has its files only now
        self._note(unused_tensors(model, info, self.where, tensors))
        # De-quantised weights are plain weights; the entry would make save_pretrained refuse.
        if hasattr(model.config, "quantization_config") and "gguf_file" in location:
            del model.config.quantization_config
            model.hf_quantizer = None
        return model

    def _note(self, ignored: list[str]) -> None:
        """Say what is ignored, once."""
        if ignored and not self.ignored:
            self._ignored = ignored
            log.warning(
                "%s: %d tensors of the checkpoint are no part of the model and are ignored: %s",
                self.label,
                len(ignored),
                ", ".join(ignored[:10]) + ", ..." * (len(ignored) > 10),
            )

    @contextmanager
    def _access(self, location: dict[str, Any], what: str) -> Iterator[None]:
        """Where loading happens: a failure becomes an error that names the file."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # parsers of other packages raise what they like
            if isinstance(error, MemoryError) or MEMORY.search(str(error)):
                raise
            self.check_files(weights=what == "weights")
            folder, place = self._folder(), self._place()
            if folder is None and place is not None:
                raise damaged(place, reason(error)) from error
            if what == "tokenizer" and folder is not None and not vocabulary_files(folder):
                raise no_vocabulary(folder, ["tokenizer.json"]) from error
            raise UserError(
                f"the {self.name} model {self.label} cannot be loaded: {reason(error)}",
                given=", ".join(self._files_of(what))
                or ", ".join(f"{key}={value}" for key, value in location.items()),
                allowed="a causal language model's config, weights and tokenizer; no remote code",
                fix="without a network use model=smollm2_135m or model=local model.path=FOLDER",
            ) from error

    def _files_of(self, what: str) -> list[str]:
        """The files that a config, a tokenizer or weights are read from, where they are known."""
        place = getattr(self, "_converted", None) or self._place()
        if place is None or place.is_file():
            return [] if place is None else [str(place)]
        if what == CONFIG:
            return [str(place / CONFIG)]
        found = tokenizer_files(place) if what == "tokenizer" else weight_files(place)
        return [str(path) for path in found] or [str(place)]


def fingerprint_of(files: Sequence[Path]) -> str:
    """Digest of the names and contents of files, in their order."""
    lines = [f"{path.name} {file_digest(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def label_of(path: str | Path) -> str:
    """What a model is called after its place: the last part, whole but for ``.gguf``.

    In the cache of the hub that is a commit, and the name stands above it.
    """
    above = Path(path).parent
    if above.name == "snapshots" and (found := re.match("models--(.+--)?(.+)", above.parent.name)):
        return found[2]
    name = re.sub(r"\.gguf$", "", Path(path).name, flags=re.IGNORECASE)
    return "" if name in ("", ".", "..") else name


def _sound(folder: Path) -> bool:
    try:
        file_inspection.inspect(folder)
    except UserError:
        return False
    return True
