"""Small models of the families that people compress, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "vocab_size": 260,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}
WINDOW = {**GROUPED, "sliding_window": 8}
NARROW = {"num_key_value_heads": 1, "head_dim": 16}
OLD = {"n_embd": 48, "n_layer": 3, "n_head": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "llama one block": {**GROUPED, "num_hidden_layers": 1},
    "mistral": WINDOW,
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {**GROUPED, "head_dim": 16},
    "gemma": NARROW,
    "gemma2": {**NARROW, "sliding_window": 8},
    "gemma3_text": {**NARROW, "sliding_window": 8},
    "phi": {},
    "phi3": GROUPED,
    "gpt_neox": {},
    "falcon": {},
    "falcon alibi": {"alibi": True},
    "olmo2": GROUPED,
    "cohere": GROUPED,
    "cohere2": WINDOW,
    "starcoder2": GROUPED,
    "granite": GROUPED,
    "smollm3": GROUPED,
    "stablelm": {**GROUPED, "partial_rotary_factor": 0.5},
    "nemotron": GROUPED,
    "glm": {**GROUPED, "head_dim": 12},
    "persimmon": {},
    "biogpt": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 48},
    "opt projected": {"ffn_dim": 96, "word_embed_proj_dim": 24},
    "bloom": {"n_layer": 3, "n_head": 4},
    "mpt": {"d_model": 48, "n_heads": 4, "n_layers": 3},
    "xglm": {"d_model": 48, "ffn_dim": 96, "num_layers": 3, "attention_heads": 4},
    "gpt_neo": {
        "num_layers": 3,
        "num_heads": 4,
        "attention_types": [[["global", "local", "global"], 1]],
    },
    "gptj": {**OLD, "rotary_dim": 4},
    "codegen": {**OLD, "rotary_dim": 4},
    "gpt_bigcode": OLD,
}
"""Name (of the model type, and what is odd about it), and what its config names otherwise."""

SINGLE = ("xglm",)
"""Those that transformers cannot run in float64."""


def made(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """The model in evaluation mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name.split()[0], **{**SMALL, **FAMILIES[name]})
    if name in SINGLE:
        dtype = torch.float32
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
