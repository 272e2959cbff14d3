"""Checks the generation settings of a checkpoint (part of ``modeling_flrc.py``)."""

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
"""One token id or a list of them."""
ENORMOUS = 2**31
"""Above every valid token id, count and factor; some larger values overflow tensors."""


def generation_settings(values: dict[str, Any]) -> GenerationConfig:
    """Settings from the values of a file; checks their types, as ``transformers`` checks few.

    Raises:
        TypeError: If a value has a wrong type.
        ValueError: If a value is enormous, or ``transformers`` refuses it.
    """
    kinds: dict[str, tuple[type, ...]] = dict.fromkeys(NUMBERS, (int, float))
    kinds |= dict.fromkeys((*COUNTS, *IDS, *LISTS), (int,)) | dict.fromkeys(SWITCHES, (bool,))
    for key, value in values.items():
        if key not in kinds:
            continue
        entries = value if key in LISTS and isinstance(value, list) else [value]
        entries = [entry for entry in entries if entry is not None]
        if any(type(entry) not in kinds[key] for entry in entries):
            raise TypeError(f"{key} is {value!r}")
        if not all(abs(entry) < ENORMOUS for entry in entries):
            raise ValueError(f"{key} is {value!r}")
    settings = GenerationConfig.from_dict(values)
    settings.validate()
    return settings
