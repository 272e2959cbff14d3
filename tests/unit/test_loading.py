"""Checkpoints that do not match their config, are damaged or of another kind: the messages."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, RECURRENT, made
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file
from saved_models import (
    WEIGHTS,
    both,
    content,
    cut,
    fields,
    header,
    saved,
    tensors,
    use,
    without,
)
from transformers import AutoModelForCausalLM

import flrc
from flrc.errors import UserError
from flrc.models.sources.hub import Hub
from flrc.models.sources.local import Local

Spoil = Callable[[Path], None]
Q = "model.layers.0.self_attn.q_proj.weight"
EMBEDDINGS = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def prefixed(held: dict[str, torch.Tensor]) -> None:
    for name in list(held):
        held[f"net.{name}"] = held.pop(name)


def halved(held: dict[str, torch.Tensor]) -> None:
    held[Q] = held[Q][:24]


def broken(held: dict[str, torch.Tensor]) -> None:
    held[Q][3, 3] = torch.nan


def with_lora(held: dict[str, torch.Tensor]) -> None:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    held[name] = torch.ones(2, 48)


def averaged(held: dict[str, torch.Tensor]) -> None:
    held |= {f"ema.{name}": tensor * 0.9 for name, tensor in held.items()}


def adding(name: str, *shape: int) -> Spoil:
    return tensors(lambda held: held.update({name: torch.ones(shape)}))


MISFITS: dict[str, tuple[Spoil, str]] = {
    "a prefix": (tensors(prefixed), "missing.*net.model"),
    "a missing layer": (tensors(lambda held: held.pop(Q)), f"{Q} is missing"),
    "a missing norm": (tensors(lambda held: held.pop("model.norm.weight")), "model.norm.weight"),
    "no head": (tensors(lambda held: held.pop("lm_head.weight")), "lm_head.weight is missing"),
    "one block too many": (fields(num_hidden_layers=1), r"model\.layers\.1\..* has no place"),
    "one block too few": (fields(num_hidden_layers=3), r"model\.layers\.2\..* is missing"),
    "another width": (tensors(halved), rf"{Q} is \(24, 48\), the config asks for \(48, 48\)"),
    "another vocabulary": (fields(vocab_size=300), r"embed_tokens.weight is \(260, 48\)"),
    "a bias": (adding("model.layers.0.self_attn.q_proj.bias", 48), "q_proj.bias has no place"),
    "a bias called like a mask": (
        adding("model.layers.0.attention.bias", 48),
        r"layers\.0\.attention\.bias has no place",
    ),
    "a norm more": (adding("model.layers.0.self_attn.q_norm.weight", 12), "q_norm.weight has no"),
    "positions": (adding("model.embed_positions.weight", 64, 48), "embed_positions"),
    "a biased head": (adding("lm_head.bias", 260), "lm_head.bias has no place"),
    "an adapter inside": (tensors(with_lora), "lora_A"),
    "another copy": (tensors(averaged), r"ema\.model"),
    "two tied that differ": (fields(tie_word_embeddings=True), "lm_head.weight differs from"),
    "a NaN in a weight": (tensors(broken), f"{Q} holds 1 NaN"),
    "a norm under two names": (
        adding("norm.weight", 48),
        r"model\.norm\.weight and norm\.weight are both",
    ),
    "a layer under two names": (
        adding("layers.0.self_attn.q_proj.weight", 48, 48),
        f"layers.0.self_attn.*and {Q} are both",
    ),
    "embeddings under two names": (
        adding("embed_tokens.weight", 260, 48),
        f"embed_tokens.weight and {EMBEDDINGS}",
    ),
    "a prefix twice": (adding("model.model.norm.weight", 48), "and model.norm.weight are both"),
    "a head under two names": (
        adding("model.lm_head.weight", 260, 48),
        "and model.lm_head.weight are both lm_head",
    ),
    "kohya's adapter": (
        adding("lora_te_model_layers_0_self_attn_q_proj.lora_down.weight", 2, 48),
        "no place",
    ),
    "another root's adapter": (adding("diffusion.layers.0.q.lora_A.weight", 2, 48), "no place"),
    "scales of (IA)3": (adding("ia3_l.weight", 48, 1), "ia3_l.weight has no place"),
    "adapters": (adding("adapters.layers.0.down.weight", 4, 48), "adapters.* has no place"),
    "a prompt": (adding("prompt_embeddings", 4, 48), "prompt_embeddings has no place"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_tensors_that_are_not_the_configs(name: str, folder: Path) -> None:
    spoil, message = MISFITS[name]
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        use(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a prefix", "a missing layer", "a bias", "one block too many", "a norm under two names"],
)
def test_other_formats_and_shards_are_matched_too(name: str, folder: Path) -> None:
    spoil, message = MISFITS[name]
    spoil(folder)
    held = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(held, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=message):
        use(folder)
    (folder / "pytorch_model.bin").unlink()
    save_torch_state_dict(held, folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    with pytest.raises(UserError, match=message):
        use(folder)


def test_two_seeds_never_give_two_models(folder: Path, tmp_path: Path) -> None:
    """The original bug: nothing in the file was used, and the run succeeded."""
    tensors(prefixed)(folder)
    with pytest.raises(UserError, match="is missing"):
        run(folder, tmp_path)
    assert not list(tmp_path.glob("runs/*/*/record.json"))


HARMLESS = {
    "frequencies": adding("model.layers.0.self_attn.rotary_emb.cos_cached", 4),
    "a mask": adding("model.layers.1.attention.bias", 1, 1, 4, 4),
    "a value head": both(adding("v_head.summary.weight", 1, 48), adding("v_head.summary.bias", 1)),
    "a vision tower": adding("visual.blocks.0.attn.qkv.weight", 8, 8),
    "an adapter of a vision tower": adding("vision_model.vision_adapter.mlp.fc1.weight", 8, 8),
    "what transformers passes over": adding("model.rotary_emb.inv_freq", 6),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_ignored_is_named_once(
    name: str, whole: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    HARMLESS[name](folder)
    with caplog.at_level(logging.WARNING, "flrc"):
        source = use(folder)
        source.load("float32")
    assert len(source.ignored) == (2 if "value" in name else 1)
    assert sum(source.ignored[0] in record.message for record in caplog.records) == 1
    loaded, plain = (Local(path=str(path)).load("float32") for path in (folder, whole))
    for mine, theirs in zip(loaded.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_vision_tower_of_more_tensors_than_the_text_has(folder: Path) -> None:
    names = [f"vision_tower.layers.{index}.weight" for index in range(40)]
    tensors(lambda held: held.update({name: torch.ones(2, 2) for name in names}))(folder)
    assert use(folder).ignored == sorted(names)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "bloom", "opt"])
def test_names_with_and_without_the_prefix(kind: str, tied: bool, tmp_path: Path) -> None:
    made_of = {**FAMILIES[kind], "num_hidden_layers": 2, "tie_word_embeddings": tied}
    folder = saved(tmp_path / "model", kind, **made_of)
    expected = Local(path=str(folder)).load("float32").state_dict()
    prefix = AutoModelForCausalLM.from_pretrained(folder).base_model_prefix

    def bare(held: dict[str, torch.Tensor]) -> None:
        for name in list(held):
            held[name.removeprefix(f"{prefix}.")] = held.pop(name)

    tensors(bare)(folder)
    source = Local(path=str(folder))
    for name, tensor in source.load("float32").state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert source.ignored == []


def test_parts_that_transformers_passes_over_are_named(tmp_path: Path) -> None:
    """Qwen3-Next's blocks for more tokens at once, which its class leaves out."""
    made("qwen3_next", torch.float32).save_pretrained(tmp_path)
    adding("mtp.layers.0.mlp.down_proj.weight", 4, 4)(tmp_path)
    source = Local(path=str(tmp_path))
    source.load("float32")
    assert source.ignored == ["mtp.layers.0.mlp.down_proj.weight"]


def run(folder: Path, tmp_path: Path, *words: str) -> Any:
    method = () if any(word.startswith("method=") for word in words) else ("method=dense",)
    return flrc.run(
        "model=local", f"model.path={folder}", *method, "evaluation=[perplexity]",
        "evaluation.perplexity.datasets=[wikitext2]", "evaluation.perplexity.windows=1",
        "evaluation.perplexity.length=64", f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}", *words,
    )  # fmt: skip


def test_the_record_names_what_was_ignored(whole: Path, folder: Path, tmp_path: Path) -> None:
    HARMLESS["a value head"](folder)
    record = run(folder, tmp_path)
    assert record.results["ignored_tensors"] == ["v_head.summary.bias", "v_head.summary.weight"]
    healthy = run(whole, tmp_path)
    assert "ignored_tensors" not in healthy.results
    values = [r.results["measurements"][0]["value"] for r in (record, healthy)]
    assert values[0] == values[1]


def test_shared_tensors_need_not_be_there_twice(tmp_path: Path) -> None:
    """And do no harm if present: ``pytorch_model.bin`` held both."""
    folder = saved(tmp_path / "model", tie_word_embeddings=True)
    assert use(folder).ignored == []
    tensors(lambda held: held.update({"lm_head.weight": held[EMBEDDINGS].clone()}))(folder)
    assert use(folder).ignored == []
    tensors(lambda held: held.pop(EMBEDDINGS))(folder)
    assert use(folder).ignored == []
    tensors(lambda held: held.pop("lm_head.weight"))(folder)
    with pytest.raises(UserError, match="is missing"):
        use(folder)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
DAMAGED: dict[str, tuple[Spoil, str, str]] = {
    "weights of git lfs": (content(WEIGHTS, POINTER), WEIGHTS, "git lfs pull"),
    "a tokenizer of git lfs": (content(TOKENIZER[0], POINTER), TOKENIZER[0], "git lfs pull"),
    "a config of git lfs": (content("config.json", POINTER), "config.json", "git lfs pull"),
    "truncated weights": (cut(WEIGHTS, -9), WEIGHTS, "truncated"),
    "a truncated header": (cut(WEIGHTS, 100), WEIGHTS, "truncated"),
    "seven bytes": (cut(WEIGHTS, 7), WEIGHTS, "truncated"),
    "no bytes": (cut(WEIGHTS, 0), WEIGHTS, "truncated"),
    "an endless header": (content(WEIGHTS, header(1 << 60, "{}")), WEIGHTS, "no safetensors"),
    "a header of nothing": (content(WEIGHTS, header(2, "[]")), WEIGHTS, "AttributeError|TypeErr"),
    "a page": (content(WEIGHTS, "<html>not found</html>" * 9), WEIGHTS, "no safetensors"),
    "trailing bytes": (
        lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes() + b"x"), WEIGHTS, "long",
    ),
    "a truncated config": (cut("config.json", 40), "config.json", "JSONDecodeError"),
    "a config that is a list": (content("config.json", "[1]"), "config.json", "list"),
    "an unknown type": (fields(model_type="nothing"), "config.json", "nothing"),
    "no causal model": (fields(model_type="t5"), "config.json", "t5"),
    "a field of words": (fields(hidden_size="wide"), "config.json", "hidden_size"),
    "truncated settings": (cut("generation_config.json", 20), "generation_config.json", "JSON"),
    "a truncated tokenizer": (cut(TOKENIZER[0], 500), TOKENIZER[0], "JSONDecodeError"),
    "an empty tokenizer": (content(TOKENIZER[0], "{}"), TOKENIZER[0], "cannot be loaded"),
    "a tokenizer's list": (content(TOKENIZER[1], "[]"), TOKENIZER[1], "list"),
    "a template of bytes": (content(TOKENIZER[2], b"\xff\xfe"), TOKENIZER[2], "Unicode"),
    "no tokenizer": (without(*TOKENIZER), TOKENIZER[0], "no vocabulary"),
    "no vocabulary": (
        both(without(TOKENIZER[0]), fields(TOKENIZER[1], tokenizer_class="LlamaTokenizer")),
        "tokenizer.model", "no vocabulary",
    ),
    "half a vocabulary": (
        both(
            without(TOKENIZER[0]), content("vocab.json", '{"a": 0}'),
            fields(TOKENIZER[1], tokenizer_class="GPT2Tokenizer"),
        ),
        "vocab.json", "merges",
    ),
    "no weights": (without(WEIGHTS), "", "has no weights"),
    "no config": (without("config.json"), "", "no config.json"),
    "other weights": (
        both(without(WEIGHTS), content("pytorch_model.bin", "not torch's")),
        "pytorch_model.bin", "archive",
    ),
    "half of other weights": (
        both(without(WEIGHTS), content("pytorch_model.bin", b"\x80\x02\x8a")),
        "pytorch_model.bin", "cannot be read",
    ),
    "a length of words": (fields(TOKENIZER[1], model_max_length="a"), TOKENIZER[1], "TypeError"),
    "a vocabulary by another name": (
        both(
            without(TOKENIZER[0]), content("tokenizer.model.v3", "pieces"),
            fields(TOKENIZER[1], tokenizer_class="LlamaTokenizer"),
        ),
        "LlamaTokenizer", "no vocabulary",
    ),
    "a vocabulary that T5 does not find": (
        both(
            without(TOKENIZER[0]), content("tokenizer.model.v3", "pieces"),
            fields(TOKENIZER[1], tokenizer_class="T5Tokenizer"),
        ),
        "T5Tokenizer", "no vocabulary",
    ),
    "an adapter": (content("adapter_config.json", "{}"), "adapter_config.json", "merge_and_unload"),
    "an adapter's weights": (
        content("adapter_model.bin", "x"), "adapter_model.bin", "merge_and_unload",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(name: str, folder: Path) -> None:
    spoil, file, message = DAMAGED[name]
    spoil(folder)
    with pytest.raises(UserError, match=message) as caught:
        use(folder)
    assert str(folder) in str(caught.value)
    assert file in str(caught.value)


NONSENSE: dict[str, dict[str, Any]] = {
    "positions": {"rope_parameters": {"rope_type": "nope"}},
    "an activation": {"hidden_act": "nope"},
    "a vocabulary": {"vocab_size": -1},
    "a head": {"head_dim": 0},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_config_that_makes_no_model(name: str, folder: Path, tmp_path: Path) -> None:
    fields(**NONSENSE[name])(folder)
    with pytest.raises(UserError, match=r"config\.json") as caught:
        run(folder, tmp_path, "method=svd")
    assert str(folder) in str(caught.value)
    assert not list(tmp_path.glob("runs/*/*/record.json"))


def test_a_config_is_not_blamed_on_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    """Tokenizers are chosen by it; the error's second line says what is wrong."""
    fields(num_attention_heads=5)(folder)
    with pytest.raises(UserError, match=r"num(_attention|ber of attention) ?_?heads") as caught:
        run(folder, tmp_path)
    assert "config.json" in str(caught.value)
    assert "tokenizer" not in str(caught.value).partition("allowed")[0]


@pytest.mark.parametrize("kind", ["ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"])
def test_tokenizers_of_bytes_need_no_vocabulary(kind: str, folder: Path) -> None:
    without(TOKENIZER[0])(folder)
    fields(TOKENIZER[1], tokenizer_class=kind)(folder)
    assert len(Local(path=str(folder)).tokenizer()("hello")["input_ids"]) >= 5


@pytest.mark.parametrize("name", ["truncated weights", "no vocabulary", "an unknown type"])
def test_nothing_is_recorded_of_a_damaged_model(name: str, folder: Path, tmp_path: Path) -> None:
    DAMAGED[name][0](folder)
    for method in ("dense", "svd"):
        with pytest.raises(UserError):
            run(folder, tmp_path, f"method={method}")
    assert not list(tmp_path.glob("runs/*/*/record.json"))


def test_shards(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", shard="100KB")
    index = folder / "model.safetensors.index.json"
    placed = json.loads(index.read_text())["weight_map"]
    first, second, *_ = sorted(set(placed.values()))
    use(folder)
    kept = (folder / second).read_bytes()
    (folder / second).unlink()
    with pytest.raises(UserError, match=f"missing: {second}"):
        use(folder)
    (folder / second).write_bytes((folder / first).read_bytes())
    with pytest.raises(UserError, match=f"{second} cannot be read"):
        use(folder)
    (folder / second).write_bytes(kept[:-1])
    with pytest.raises(UserError, match=f"{second} cannot be read"):
        use(folder)
    (folder / second).write_bytes(kept)
    for spoiled in ('{"weight_map": []}', "{}", '{"weight_map": {"a": 1}}', "{"):
        index.write_text(spoiled)
        with pytest.raises(UserError, match=index.name):
            use(folder)


def packed(dtype: torch.dtype) -> Spoil:
    return tensors(lambda held: held.update({Q: torch.ones(48, 48).to(dtype)}))


QUANTISED = {
    "bitsandbytes": fields(quantization_config={"load_in_4bit": True}),
    "gptq": fields(quantization_config={"quant_method": "gptq", "bits": 4}),
    "within": fields(text_config={"quantization_config": {"quant_method": "awq"}}),
    "compressed": fields(compression_config={"format": "pack-quantized"}),
    "an old gptq": fields("quantize_config.json", bits=4),
    "an old awq": fields("quant_config.json", w_bit=4),
    "modelopt": fields("hf_quant_config.json", producer={}),
    "int8": packed(torch.int8),
    "int32": packed(torch.int32),
    "fp8": packed(torch.float8_e4m3fn),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantized_checkpoint_is_reported_before_it_is_loaded(name: str, folder: Path) -> None:
    QUANTISED[name](folder)
    with pytest.raises(UserError, match=r"quantized.*(?s:.*)dequantize"):
        Local(path=str(folder)).check_available()


DTYPES = [torch.int8, torch.float8_e4m3fn, torch.int64, torch.bool, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("archive", [True, False, None])
def test_weights_that_are_not_plain_numbers(
    dtype: torch.dtype, archive: bool | None, folder: Path
) -> None:
    """In all formats; those of torch once had none."""
    if archive is None:
        packed(dtype)(folder)
    else:
        held = load_file(folder / WEIGHTS) | {Q: torch.ones(48, 48).to(dtype)}
        (folder / WEIGHTS).unlink()
        place = folder / "pytorch_model.bin"
        if not archive and dtype == torch.float8_e4m3fn:
            pytest.skip("torch cannot read it")
        torch.save(held, place, _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match=f"quantized.*(?s:.*){Q} is"):
        Local(path=str(folder)).check_available()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_of_whole_numbers(dtype: torch.dtype, folder: Path) -> None:
    tensors(lambda held: held.update({"model.norm.weight": torch.ones(48).to(dtype)}))(folder)
    with pytest.raises(UserError, match=r"quantized.*(?s:.*)model\.norm\.weight is"):
        use(folder)


def test_constants_may_be_whole_numbers(folder: Path) -> None:
    name = "vision.relative_position_index"
    tensors(lambda held: held.update({name: torch.ones(4, 4, dtype=torch.int64)}))(folder)
    assert use(folder).ignored == [name]


def test_a_training_checkpoint(folder: Path) -> None:
    held = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for content_ in ({"state_dict": held}, {"model": held, "optimizer": {"step": 1}}):
        torch.save(content_, folder / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"pytorch_model\.bin.*(?s:.*)a training checkpoint"):
            Local(path=str(folder)).check_available()


def test_out_of_memory_is_not_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        OSError("[Errno 12] Cannot allocate memory"),
    ):

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
        with pytest.raises(type(error)):
            Local(path=str(folder)).load("float32")


def test_models_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the local cache, as a download leaves it."""
    commit = "0" * 40
    base = tmp_path / "hub" / "models--owner--name"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    place = base / "snapshots" / commit
    shutil.copytree(folder, place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def load_from_hub() -> Any:
        source = Hub(id="owner/name", label="name")
        source.check_available()
        source.tokenizer()
        return source.load("float32")

    assert load_from_hub().num_parameters() > 0
    known = hashlib.sha256(f"owner/name@{commit}".encode()).hexdigest()
    assert Hub(id="owner/name").fingerprint() == known
    assert Hub(id="owner/name", revision=commit).fingerprint() == known
    moved = place.with_name("1" * 40)
    shutil.copytree(place, moved)
    (base / "refs" / "main").write_text(moved.name)
    assert Hub(id="owner/name").fingerprint() != known
    place = moved
    kept = (place / WEIGHTS).read_bytes()
    for spoil, message in (
        (tensors(prefixed), "is missing"),
        (content(WEIGHTS, POINTER), "git lfs"),
        (cut(WEIGHTS, 100), "truncated"),
        (packed(torch.int8), "quantized"),
        (fields(quantization_config={"quant_method": "gptq"}), "quantized"),
        (content("adapter_config.json", "{}"), "merge_and_unload"),
    ):
        (place / WEIGHTS).write_bytes(kept)
        spoil(place)
        with pytest.raises(UserError, match=message):
            load_from_hub()


def test_weights_that_are_not_there_yet_are_not_to_blame(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Config and tokenizer of a model of the hub are read before its weights are downloaded."""
    commit = "0" * 40
    base = tmp_path / "hub" / "models--owner--name"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(commit)
    place = Path(shutil.copytree(folder, base / "snapshots" / commit))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (place / WEIGHTS).unlink()
    source = Hub(id="owner/name", label="name")
    content(TOKENIZER[0], "{}")(place)
    with pytest.raises(UserError, match=TOKENIZER[0]):
        source.tokenizer()
    fields(model_type="nothing")(place)
    with pytest.raises(UserError, match=r"cannot be loaded(?s:.*)config\.json"):
        source.config()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_file_in_a_folder_is_not_a_model(name: str, folder: Path) -> None:
    with pytest.raises(UserError, match=f"single file of a saved model(?s:.*)model.path={folder}$"):
        Local(path=str(folder / name)).check_available()


def test_compressed_models_are_refused(folder: Path) -> None:
    content("flrc.json", "{}")(folder)
    with pytest.raises(UserError, match="compressed model"):
        Local(path=str(folder)).check_available()


@pytest.mark.parametrize("name", [*FAMILIES, *RECURRENT])
def test_what_every_family_saves_is_whole(name: str, tmp_path: Path) -> None:
    """Also where names are converted, tensors tied, and constants stored."""
    model = made(name, torch.float32)
    model.save_pretrained(tmp_path)
    source = Local(path=str(tmp_path))
    source.check_available()
    loaded = source.load("float32")
    assert source.ignored == []
    expected = model.state_dict()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
