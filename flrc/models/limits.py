"""How long a model's inputs may be, and which tokens it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_sequence_length",
    "max_target_positions",
    "context_length",
)
"""Names under which model types of ``transformers`` keep their context length."""


@dataclass(frozen=True)
class Limits:
    """What a model's config says of its inputs.

    Attributes:
        context: Context length in tokens; None where the architecture knows no such limit.
        vocabulary: Rows of the input embedding; None where the config does not say.
    """

    context: int | None
    vocabulary: int | None

    @classmethod
    def of(cls, config: PretrainedConfig) -> Limits:
        """The limits of the language model in a config."""
        text = config.get_text_config(decoder=True)
        return cls(_first(text, CONTEXT), _first(text, ("vocab_size",)))


def _first(config: PretrainedConfig, names: tuple[str, ...]) -> int | None:
    """The first of these attributes that holds a count; a limit of zero or less means none."""
    values = (getattr(config, name, None) for name in names)
    return next((v for v in values if type(v) is int and v > 0), None)
