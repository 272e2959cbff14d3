"""Models of any size with random weights on disk, written without ever holding one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from flrc.models.sources.byte_tokenizer import byte_tokenizer

LLAMA3_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
"""The shape of Llama-3-8B, from its published config."""


def store_random(folder: Path, shape: dict[str, Any], dtype: torch.dtype) -> int:
    """Write a model of this shape as ``save_pretrained`` does, one file for each block.

    Returns:
        Bytes of its weights.
    """
    folder.mkdir(parents=True)
    config = AutoConfig.for_model(**shape)
    config.dtype = dtype
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    files: dict[str, dict[str, torch.Size]] = {}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    for name, parameter in model.named_parameters():
        if name not in tied:
            block = re.search(r"\.layers\.(\d+)\.", name)
            file = f"model-{f'{int(block[1]):03d}' if block else 'rest'}.safetensors"
            files.setdefault(file, {})[name] = parameter.shape
    draw, total, index = torch.Generator().manual_seed(0), 0, {}
    for file, shapes in files.items():
        tensors = {name: weight(shape, dtype, draw) for name, shape in shapes.items()}
        save_file(tensors, folder / file, {"format": "pt"})
        index |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), "utf-8")
    return total


def weight(shape: torch.Size, dtype: torch.dtype, draw: torch.Generator) -> torch.Tensor:
    """A norm's weights are 1, all others as a model is initialised."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=dtype)
    return torch.empty(shape, dtype=dtype).normal_(0.0, 0.02, generator=draw)
