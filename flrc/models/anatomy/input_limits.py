"""A model's context length and vocabulary size, from its config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONTEXT = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length",
    "max_target_positions", "context_length",
)  # fmt: skip
"""Fields in which model types of ``transformers`` keep their context length."""
BEYOND = ("dynamic", "yarn")
"""Kinds of RoPE scaling whose configs may give only the length before scaling."""
AFTER_PADDING = (
    "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types whose first position follows that of the padding token."""


@dataclass(frozen=True)
class Limits:
    """What a model's config says about its inputs.

    Attributes:
        context: Context length in tokens; None if the architecture has no limit.
        vocabulary: Rows of the input embedding; None if the config does not say.
    """

    context: int | None
    vocabulary: int | None

    @classmethod
    def of(cls, config: PretrainedConfig) -> Limits:
        """The limits of the language model in a config."""
        text = config.get_text_config(decoder=True)
        context = _first(text, CONTEXT)
        if context is not None and text.model_type in AFTER_PADDING:
            context -= (text.pad_token_id or 0) + 1
        if context is not None:
            context = max(context, *_extended(text, context))
        return cls(context, _first(text, ("vocab_size",)))


def _extended(config: PretrainedConfig, context: int) -> list[int]:
    """The context lengths that RoPE scaling reaches, by kind of layer; at least one entry."""
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    kinds = scaling if isinstance(scaling, dict) else {}
    nested = [kind for kind in kinds.values() if isinstance(kind, dict)]
    lengths = [0]
    for kind in nested or [kinds]:
        factor, original = kind.get("factor"), kind.get("original_max_position_embeddings")
        if kind.get("rope_type", kind.get("type")) in BEYOND:
            original = original or context
        if isinstance(factor, int | float) and original:
            lengths.append(int(factor * original))
    return lengths


def _first(config: PretrainedConfig, names: tuple[str, ...]) -> int | None:
    """The first of these fields with a positive integer; zero or less means no limit."""
    values = (getattr(config, name, None) for name in names)
    return next((v for v in values if type(v) is int and v > 0), None)
