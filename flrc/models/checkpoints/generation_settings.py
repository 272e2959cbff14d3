"""The settings for generating that a checkpoint ships with."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig

NUMBERS = (
    "diversity_penalty", "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
    "guidance_scale", "length_penalty", "max_time", "min_p", "repetition_penalty", "temperature",
    "top_h", "top_p", "typical_p",
)  # fmt: skip
COUNTS = (
    "max_length", "max_new_tokens", "min_length", "min_new_tokens", "no_repeat_ngram_size",
    "num_beams", "num_return_sequences", "prompt_lookup_num_tokens", "top_k",
)  # fmt: skip
SWITCHES = ("do_sample", "remove_invalid_values", "renormalize_logits", "use_cache")
IDS = ("bos_token_id", "decoder_start_token_id", "pad_token_id")
LISTS = (
    "begin_suppress_tokens", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id",
    "suppress_tokens",
)  # fmt: skip
"""These may be one token or several."""
ENORMOUS = 2**31
"""No token, count or factor is larger; tensors overflow at some that are."""


def generation_settings(values: dict[str, Any]) -> GenerationConfig:
    """Settings as a file has them; their kinds are checked here, as ``transformers`` checks few.

    Raises:
        TypeError: If a value is of another kind than its field.
        ValueError: If ``transformers`` refuses one.
    """
    kinds: dict[str, tuple[type, ...]] = dict.fromkeys(NUMBERS, (int, float))
    kinds |= dict.fromkeys((*COUNTS, *IDS, *LISTS), (int,)) | dict.fromkeys(SWITCHES, (bool,))
    for key, value in values.items():
        several = value if key in LISTS and isinstance(value, list) else [value]
        if any(type(one) not in (*kinds.get(key, (type(one),)), type(None)) for one in several):
            raise TypeError(f"{key} is {value!r}")
        if key in kinds and any(one is not None and not abs(one) < ENORMOUS for one in several):
            raise ValueError(f"{key} is {value!r}")
    settings = GenerationConfig.from_dict(values)
    settings.validate()
    return settings
