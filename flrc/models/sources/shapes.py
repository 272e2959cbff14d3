"""Named model shapes: arguments of ``AutoConfig.for_model``.

Tiny ones for tests, one for each kind of block; real ones for measuring speed.
"""

from __future__ import annotations

from typing import Any

_TINY: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 260,
    "max_position_embeddings": 4096,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}

_TIED = {"tie_word_embeddings": True}
_WIDE_HEADS = {"head_dim": 16}

SHAPES: dict[str, dict[str, Any]] = {
    "tiny_llama": {**_TINY, "model_type": "llama", "num_key_value_heads": 4},
    "tiny_llama_gqa": {**_TINY, "model_type": "llama", "num_key_value_heads": 2, **_TIED},
    "tiny_mistral": {**_TINY, "model_type": "mistral", "num_key_value_heads": 2},
    "tiny_qwen2": {**_TINY, "model_type": "qwen2", "num_key_value_heads": 2, **_TIED},
    "tiny_qwen3": {**_TINY, "model_type": "qwen3", "num_key_value_heads": 2, **_WIDE_HEADS},
    "tiny_gemma": {
        **_TINY,
        "model_type": "gemma",
        "num_key_value_heads": 1,
        **_WIDE_HEADS,
        **_TIED,
    },
    "tiny_gemma3": {
        **_TINY,
        "model_type": "gemma3_text",
        "num_key_value_heads": 2,
        **_WIDE_HEADS,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    # Llama-3.2-1B, for measuring speed without a download.
    "llama3_2_1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 258,
    },
}
