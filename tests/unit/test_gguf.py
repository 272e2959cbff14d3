"""GGUF files: what their reader skips, what is damaged, and what the cache keeps of them."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from flrc.core.cache import StageCache
from flrc.errors import UserError
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.local import Local

WIDTH, HIDDEN, WORDS = 48, 96, 64


def write(path: Path, blocks: int = 2, drop: str = "", **more: tuple[int, ...]) -> Path:
    """A tiny Llama of two blocks, in float32; ``blocks`` is what the file says."""
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_name("tiny")
    out.add_block_count(blocks)
    out.add_context_length(128)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(HIDDEN)
    out.add_head_count(4)
    out.add_head_count_kv(4)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // 4)
    out.add_vocab_size(WORDS)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("default")
    out.add_token_list(["a", "b", "ab", *(f"<{number}>" for number in range(3, WORDS))])
    out.add_token_types([1] * WORDS)
    out.add_token_merges(["a b"])
    out.add_bos_token_id(3)
    out.add_eos_token_id(4)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WORDS, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (WORDS, WIDTH),
    }
    for block in ("blk.0", "blk.1"):
        shapes |= {f"{block}.{name}_norm.weight": (WIDTH,) for name in ("attn", "ffn")}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"{block}.{name}.weight"] = (WIDTH, WIDTH)
        shapes |= {f"{block}.ffn_{name}.weight": (HIDDEN, WIDTH) for name in ("gate", "up")}
        shapes[f"{block}.ffn_down.weight"] = (WIDTH, HIDDEN)
    draw = np.random.default_rng(0)
    for name, shape in (shapes | more).items():
        if name != drop:
            out.add_tensor(name, draw.normal(scale=0.1, size=shape).astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "a missing layer": ({"drop": "blk.1.attn_q.weight"}, r"layers\.1\.self_attn\.q_proj.*missing"),
    "one block too many": ({"blocks": 1}, r"blk\.1\.\w+\.weight has no place"),
    "one block too few": ({"blocks": 3}, r"layers\.2\..* is missing"),
    "a bias": ({"blk.0.attn_q.bias": (WIDTH,)}, r"blk\.0\.attn_q\.bias has no place"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_tensors_that_are_not_the_configs(name: str, tmp_path: Path) -> None:
    options, message = MISFITS[name]
    source = Local(path=str(write(tmp_path / "tiny.gguf", **options)))
    with pytest.raises(UserError, match=message) as caught:
        source.load("float32")
    assert "tiny.gguf" in str(caught.value)


@pytest.mark.parametrize("size", [0, 3, 40, 500, -20_000, -1])
def test_a_truncated_file_is_named(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"file tiny\.gguf cannot be read"):
        whole(Local(path=str(path)))


def whole(source: Local) -> None:
    source.check_available()
    source.tokenizer()
    source.load("float32")


def test_an_adapter_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="merge_and_unload"):
        Local(path=str(path)).check_available()


def test_what_is_ignored_is_known_from_the_cache_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "tiny.gguf", **{"rope_freqs.weight": (6,)})
    cache = StageCache(tmp_path / "cache", 10**12)
    for _ in range(2):
        source = Local(path=str(path))
        with caplog.at_level(logging.WARNING, "flrc"):
            caplog.clear()
            source.convert(cache, "float32")
            source.load("float32")
        assert source.ignored == ["rope_freqs.weight"]
        assert sum("rope_freqs" in record.message for record in caplog.records) == 1


def test_a_damaged_conversion_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "tiny.gguf")
    cache = StageCache(tmp_path / "cache", 10**12)
    first = Local(path=str(path))
    first.convert(cache, "float32")
    held = first.load("float32").state_dict()
    expected = {name: tensor.clone() for name, tensor in held.items()}  # not of the file itself
    del held
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    sound = weights.read_bytes()
    for spoiled in (sound[:100], b"x" * len(sound)):
        weights.unlink()
        weights.write_bytes(spoiled)
        caplog.clear()
        again = Local(path=str(path))
        again.convert(cache, "float32")
        assert "damaged" in caplog.text
        found = again.load("float32").state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert weights.read_bytes() == sound


def test_another_tokenizer_beside_it_is_another_conversion(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.gguf")
    cache = StageCache(tmp_path / "cache", 10**12)
    sizes = []
    for beside in (False, True):
        if beside:
            byte_tokenizer().save_pretrained(tmp_path / "bytes")
            shutil.copy(tmp_path / "bytes" / "tokenizer.json", tmp_path)
        source = Local(path=str(path))
        source.convert(cache, "float32")
        sizes.append(len(source.tokenizer()))
    assert sizes[0] < sizes[1] == len(byte_tokenizer())
