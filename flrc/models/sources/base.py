"""What a model source is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flrc.core.component import Component

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.core.cache import StageCache


@dataclass
class ModelSource(Component, ABC):
    """Loads a causal language model of ``transformers``.

    Attributes:
        label: Name in folders and tables; if empty, taken from the model's path, shape or id.
        save: Whether the compressed model is written into the run's folder, under ``model/``.
        partial: Whether the model is compressed even if more than 3 % of the parameters in the
            matrices of its decoder blocks do not belong to linear layers.
    """

    label: str = ""
    save: bool = False
    partial: bool = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of weights, config and tokenizer, or of the revision that determines them."""

    @abstractmethod
    def check_available(self) -> None:
        """Raise UserError, with the command that provides it, if the model is not available."""

    @abstractmethod
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""

    @abstractmethod
    def config(self) -> PretrainedConfig:
        """The model's config; reads no weights."""

    @abstractmethod
    def load(self, dtype: str) -> PreTrainedModel:
        """The model with its weights, on the CPU."""

    @property
    def ignored(self) -> list[str]:
        """Names of the checkpoint's tensors that the loaded model does not use."""
        return []

    def commit(self) -> str | None:
        """The commit of the model's files, where they have one."""
        return None

    @property
    def where(self) -> str:
        """The model's name in messages: its path, or its label."""
        return self.label

    def origin(self) -> dict[str, str]:
        """What is known of the model's origin: ``id`` on the Hub, and ``license``."""
        return {}

    def convert(self, cache: StageCache, dtype: str) -> None:
        """Convert slowly loading files once, into the cache; most sources have none."""


def hub_id_of(path: str | Path) -> str:
    """``owner/name`` of a snapshot in the Hub's cache; empty for any other path."""
    above = Path(path).parent
    match = re.fullmatch("models--(.+?)--(.+)", above.parent.name)
    return f"{match[1]}/{match[2]}" if above.name == "snapshots" and match else ""


def license_of(folder: Path) -> str:
    """The licence in the header of a folder's model card; empty if there is none."""
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    if not card.is_file():
        return ""
    try:
        header = metadata_load(card) or {}
    except Exception:  # the parser raises many kinds; a card that cannot be read names no licence
        return ""
    found = header.get("license") if isinstance(header, dict) else None
    return found if isinstance(found, str) else ""


def label_of(path: str | Path) -> str:
    """The label of a model at a path: its last part without ``.gguf``.

    In the Hub's cache the last part is a commit; the model's name is taken from above it.
    """
    above = Path(path).parent
    if above.name == "snapshots" and (match := re.match("models--(.+--)?(.+)", above.parent.name)):
        return match[2]
    name = re.sub(r"\.gguf$", "", Path(path).name, flags=re.IGNORECASE)
    return "" if name in ("", ".", "..") else name
