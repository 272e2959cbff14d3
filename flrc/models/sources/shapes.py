"""Named model shapes: arguments of ``AutoConfig.for_model``.

Tiny ones for tests, one for each kind of block; real ones for measuring speed.
"""

from __future__ import annotations

from typing import Any

_TOKENS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}


def _tiny(model_type: str, key_value_heads: int, **fields: Any) -> dict[str, Any]:
    return {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 260,
        "max_position_embeddings": 4096,
        **_TOKENS,
        "model_type": model_type,
        "num_key_value_heads": key_value_heads,
        **fields,
    }


def _llama(width: int, inside: int, blocks: int, heads: int, **fields: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inside,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        **_TOKENS,
        **fields,
    }


SHAPES: dict[str, dict[str, Any]] = {
    "tiny_llama": _tiny("llama", 4),
    "tiny_llama_gqa": _tiny("llama", 2, tie_word_embeddings=True),
    "tiny_mistral": _tiny("mistral", 2),
    "tiny_qwen2": _tiny("qwen2", 2, tie_word_embeddings=True),
    "tiny_qwen3": _tiny("qwen3", 2, head_dim=16),
    "tiny_gemma": _tiny("gemma", 1, head_dim=16, tie_word_embeddings=True),
    "tiny_gemma3": _tiny(
        "gemma3_text",
        2,
        head_dim=16,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    # Llama-3.2-1B and 3B, Llama-3-8B and Llama-2-13B: for measuring speed, and reckoning what a run
    # takes, without a download.
    "llama3_2_1b": _llama(2048, 8192, 16, 32, head_dim=64, tie_word_embeddings=True),
    "llama3_2_3b": _llama(3072, 8192, 28, 24, head_dim=128, tie_word_embeddings=True),
    "llama3_8b": _llama(
        4096, 14336, 32, 32, head_dim=128, max_position_embeddings=8192, tie_word_embeddings=False
    ),
    "llama2_13b": _llama(
        5120,
        13824,
        40,
        40,
        head_dim=128,
        num_key_value_heads=40,
        vocab_size=32000,
        max_position_embeddings=4096,
        rope_theta=10000.0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    ),
}
