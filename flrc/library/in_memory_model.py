"""A model in memory as a model source."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from flrc.errors import UserError
from flrc.library.model_checks import check_model
from flrc.library.tokenizer_digest import tokenizer_digest
from flrc.models.checkpoints.weights import add_tensors
from flrc.models.sources.base import ModelSource, hub_id_of, label_of, license_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


@dataclass(init=False)
class InMemoryModel(ModelSource):
    """The caller's model itself, not a copy.

    Args:
        model: Its fingerprint is computed now, before anything changes.
        tokenizer: The model's.

    Raises:
        UserError: If the model is not a dense causal language model that ``transformers`` could
            rebuild from its config, or the tokenizer is not one of ``transformers``.
    """

    name: str = "in_memory"

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        check_model(model)
        self._model = model
        self._tokenizer = _checked_tokenizer(tokenizer)
        self._config: PretrainedConfig = type(model.config).from_dict(model.config.to_dict())
        self._fingerprint = _fingerprint(model, self._tokenizer)
        self._origin = _origin(str(model.config.name_or_path))
        label = label_of(str(model.config.name_or_path)) or str(model.config.model_type)
        super().__init__(name="in_memory", label=label)

    def fingerprint(self) -> str:
        """Digest of weights, config, generation settings and tokenizer."""
        return self._fingerprint

    def origin(self) -> dict[str, str]:
        """What its config's ``name_or_path`` says: a name on the Hub, or a folder with a card."""
        return self._origin

    def check_available(self) -> None:
        """A model in memory is always available."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The caller's tokenizer."""
        return self._tokenizer

    def config(self) -> PretrainedConfig:
        """A copy of the model's config, taken before anything changed."""
        return self._config

    def load(self, dtype: str) -> PreTrainedModel:
        """The caller's model itself."""
        return self._model


def _fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    digest = hashlib.sha256(tokenizer_digest(tokenizer).encode())
    digest.update(model.config.to_json_string(use_diff=True).encode())
    # The config's JSON leaves out the attention implementation.
    digest.update(str(model.config._attn_implementation).encode())
    if model.generation_config is not None:  # its end-of-sequence tokens end replies
        digest.update(model.generation_config.to_json_string().encode())
    add_tensors(digest, model.state_dict())
    return digest.hexdigest()


def _origin(name_or_path: str) -> dict[str, str]:
    path = Path(name_or_path)
    if path.is_dir():
        known = {"id": hub_id_of(path), "license": license_of(path)}
        return {key: value for key, value in known.items() if value}
    return {"id": name_or_path} if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name_or_path) else {}


def _checked_tokenizer(tokenizer: Any) -> PreTrainedTokenizerBase:
    if tokenizer is None:
        raise UserError("a model in memory needs its tokenizer", fix="tokenizer=...")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UserError(
            "this is not a tokenizer",
            given=type(tokenizer).__name__,
            allowed="a tokenizer of transformers, for example from AutoTokenizer.from_pretrained",
        )
    return tokenizer
