"""Small models of common families, with random weights."""

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

VISION = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {**SMALL, **GROUPED}
MULTIMODAL: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {**TEXT, "head_dim": 16, "sliding_window": 8},
        "vision_config": VISION,
    },
    "git": {"vision_config": VISION},
    "got_ocr2": {
        "text_config": {**TEXT, "model_type": "qwen2"},
        "vision_config": {**VISION, "mlp_dim": 192},
    },
    "phi4_multimodal": {
        **GROUPED,
        "vision_config": VISION,
        "audio_config": {
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_blocks": 4,
            "num_attention_heads": 4,
            "ext_pw_out_channel": 96,
            "depthwise_separable_out_channel": 96,
            "nemo_conv_channels": 96,
        },
    },
}
"""Those whose encoders of images and sound are larger than their decoders."""

LINEAR_ATTENTION = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 12,
}
PARTIAL: dict[str, dict[str, Any]] = {
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "qwen2_moe": {
        **GROUPED,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_next": {
        **GROUPED,
        **LINEAR_ATTENTION,
        "head_dim": 12,
        "num_hidden_layers": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "minimax": {**GROUPED, "num_local_experts": 2},
    "gpt_oss": {**GROUPED, "head_dim": 12, "num_local_experts": 4, "num_experts_per_tok": 2},
    "llama4_text": {**GROUPED, "head_dim": 12, "num_local_experts": 4, "intermediate_size_mlp": 96},
    "dbrx": {
        "d_model": 48,
        "n_heads": 4,
        "n_layers": 3,
        "max_seq_len": 128,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 48, "ffn_hidden_size": 96, "moe_num_experts": 4},
    },
    "jetmoe": {
        "num_key_value_heads": 2,
        "kv_channels": 12,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "rwkv": {"attention_hidden_size": 48},
}
"""Those whose experts are parameters of three dimensions, no linear layers; and RWKV, which divides
weights of its layers in its first forward pass."""
RECURRENT: dict[str, dict[str, Any]] = {
    "xlstm": {"num_heads": 4, "num_blocks": 3},
    "bamba": {
        **GROUPED,
        "attn_layer_indices": [1],
        "mamba_n_heads": 4,
        "mamba_d_head": 24,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
    },
    "mamba2": {"num_heads": 4, "head_dim": 24, "state_size": 8, "n_groups": 1},
}
"""Those that carry a state; xLSTM and Bamba return something beside their hidden states."""
UNFIT: dict[str, dict[str, Any]] = {
    "gemma3n_text": {
        **NARROW,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 260,
    },
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "local"],
        "axial_pos_embds": False,
        "feed_forward_size": 96,
        "local_attn_chunk_length": 8,
        "attention_head_size": 12,
    },
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "n_mamba_heads": 1,
        "attention_head_dim": 24,
        "attention_hidden_size": 96,
    },
    "cpmant": {"dim_head": 12, "dim_ff": 96, "prompt_length": 8},
    "hrm_text": GROUPED,
    "xlm": {"emb_dim": 48, "n_layers": 3, "n_heads": 4, "causal": True},
    "gpt2": OLD,
}
"""Families whose blocks do not pass hidden states on, or share or lack linear layers."""
STATEFUL: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 4, "head_dim": 24, "state_size": 8, "n_groups": 1},
    "lfm2": {**GROUPED, "layer_types": ["conv", "full_attention", "conv"]},
    "recurrent_gemma": {
        "num_key_value_heads": 1,
        "head_dim": 12,
        "lru_width": 48,
        "block_types": ["recurrent", "attention"],
        "attention_window_size": 16,
    },
}
"""Families that keep states beside keys and values, or instead of them."""

SINGLE = ("xglm",)
"""Those that transformers cannot run in float64."""


def made(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """The model in evaluation mode."""
    torch.manual_seed(0)
    known = FAMILIES | MULTIMODAL | PARTIAL | RECURRENT | STATEFUL | UNFIT
    config = AutoConfig.for_model(name.split()[0], **{**SMALL, **known[name]})
    if name in SINGLE:
        dtype = torch.float32
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
