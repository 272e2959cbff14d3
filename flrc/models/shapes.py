"""Named model shapes: arguments of ``AutoConfig.for_model``.

Tiny ones for tests, one of every kind of block.
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

SHAPES: dict[str, dict[str, Any]] = {
    "tiny_llama": {**_TINY, "model_type": "llama", "num_key_value_heads": 4},
    "tiny_llama_gqa": {
        **_TINY,
        "model_type": "llama",
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "tiny_mistral": {**_TINY, "model_type": "mistral", "num_key_value_heads": 2},
    "tiny_qwen2": {
        **_TINY,
        "model_type": "qwen2",
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "tiny_qwen3": {**_TINY, "model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 16},
    "tiny_gemma": {
        **_TINY,
        "model_type": "gemma",
        "num_key_value_heads": 1,
        "head_dim": 16,
        "tie_word_embeddings": True,
    },
    "tiny_gemma3": {
        **_TINY,
        "model_type": "gemma3_text",
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}
