"""Compress a model in memory, look at its ranks, and generate with it.

    python examples/compress_in_memory.py

The model is a tiny one with random weights: this takes seconds and downloads nothing, and its text
is noise. For a real one, take ``AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")`` and its
tokenizer.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import flrc
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.shapes import SHAPES
from flrc.results.records.record import Record

TEXTS = [
    "The river rose in the night, and in the morning the bridge was gone.",
    "A lake has no current; a river has little else.",
    "She counted the boats twice and wrote down the smaller number.",
]


def tiny_model() -> PreTrainedModel:
    """Three blocks with random weights."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**SHAPES["tiny_llama"]))
    return model.eval()


def print_ranks(record: Record) -> None:
    """The rank of every layer, and the rate that was met: a row for each projection."""
    ranks: dict[str, list[str]] = defaultdict(list)
    for layer in record.results["layers"]:
        rank = layer["rank"]
        ranks[layer["projection"]].append("dense" if rank is None else str(rank))
    print("ranks by block")
    for projection, by_block in ranks.items():
        print(f"  {projection:10}", *(f"{rank:>6}" for rank in by_block))
    sizes = record.results["parameters"]
    stored = sizes["targets_stored"] / sizes["targets_dense"]
    print(f"rate {record.results['rate']['realised']:.4f}, stored / dense {stored:.3f}")


def main() -> None:
    """Compress, print, generate, save and load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("compressed"), help="of the checkpoint")
    parser.add_argument("--method", default="flra", help="a preset in conf/method")
    parser.add_argument("--rate", type=float, default=0.3)
    arguments = parser.parse_args()

    compressed, record = flrc.compress(
        tiny_model(),
        byte_tokenizer(),
        method=arguments.method,
        rate=arguments.rate,
        calibration=TEXTS,
    )
    print_ranks(record)
    print("reply:", repr(flrc.generate(compressed, "Three rivers:", max_new_tokens=8)))

    flrc.save(compressed, arguments.folder)
    again = flrc.load(arguments.folder)
    ids = again.tokenizer("A lake", return_tensors="pt")["input_ids"]
    print("same logits after loading:", torch.equal(again(ids).logits, compressed(ids).logits))


if __name__ == "__main__":
    main()
