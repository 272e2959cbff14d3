"""No model is given tokens for which it has no position or no embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_data
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, OPTConfig

import flrc
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.evaluation.reply_generation import generate_replies
from flrc.models.anatomy.input_limits import Limits
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.runtime.decoding import Decoder

SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "learned": lambda **more: OPTConfig(ffn_dim=96, word_embed_proj_dim=48, **SIZES, **more),
    "rotary": lambda **more: LlamaConfig(intermediate_size=96, **SIZES, **more),
}
PERPLEXITY = ("evaluation=[perplexity]", "evaluation.perplexity.datasets=[wikitext2]")
DIALOGUES = (
    "evaluation=[summarization]", "evaluation.summarization.limit=3",
    "evaluation.summarization.max_new_tokens=4",
)  # fmt: skip


class Place:
    """A saved model of 64 positions, data, and folders for one test."""

    def __init__(self, root: Path, kind: str = "rotary", **config: Any) -> None:
        settings = {"vocab_size": 260, "max_position_embeddings": 64} | config
        model = AutoModelForCausalLM.from_config(CONFIGS[kind](**settings))
        model.save_pretrained(root / "model")
        byte_tokenizer().save_pretrained(root / "model")
        write_data(root / "data")
        self.root = root

    def run(self, *words: str, method: str = "dense") -> Any:
        where = (f"paths.runs={self.root / 'r'}", f"paths.cache={self.root / 'c'}")
        model = ("model=local", f"model.path={self.root / 'model'}", "device=cpu")
        data = ("data=folder", f"data.root={self.root / 'data'}")
        data = () if "data=sample" in words else data
        try:
            return flrc.run(*model, *data, f"method={method}", *words, *where)
        except UserError:
            assert not list(self.root.rglob("record.json")), "refused after work had begun"
            raise


@pytest.mark.parametrize("kind", CONFIGS)
def test_windows(kind: str, tmp_path: Path) -> None:
    place = Place(tmp_path, kind)
    with pytest.raises(UserError, match=r"(?s)wikitext2 is longer than the model's context.*65"):
        place.run(*PERPLEXITY, "evaluation.perplexity.length=65")
    assert place.run(*PERPLEXITY, "evaluation.perplexity.length=64").run["status"] == "ok"


def test_a_prompt_and_its_reply(tmp_path: Path) -> None:
    """The last token of a reply is never fed back: one position fewer than tokens."""
    place = Place(tmp_path, "learned", max_position_embeddings=512)
    (tmp_path / "data" / "dialogsum" / "test.jsonl").write_text(
        '{"id": "a_1", "dialogue": "the red fox", "summary": "a fox"}\n'
    )
    few = (
        *(w for w in DIALOGUES if ".limit=" not in w and "max_new_tokens" not in w),
        "evaluation.summarization.limit=1",
    )
    asked = "Summarize the following dialogue in one or two sentences.\n\nthe red fox"
    longest = len(byte_tokenizer()(f"user: {asked}\nassistant: ")["input_ids"])
    fits = 512 - longest + 1
    with pytest.raises(UserError, match=r"(?s)a prompt of dialogsum with its reply is longer.*new"):
        place.run(*few, f"evaluation.summarization.max_new_tokens={fits + 1}")
    words = f"evaluation.summarization.max_new_tokens={fits}"
    assert place.run(*few, words).run["status"] == "ok"


def test_questions(tmp_path: Path) -> None:
    place = Place(tmp_path)
    words = ("evaluation=[zeroshot]", "evaluation.zeroshot.tasks=[piqa]", "data=sample")
    with pytest.raises(
        UserError, match=r"(?s)a question of sample_piqa with an answer is longer.*64"
    ):
        place.run(*words, "evaluation.zeroshot.limit=2")


def test_the_search_for_a_schedule(tmp_path: Path) -> None:
    place = Place(tmp_path, max_position_embeddings=256)
    words = (
        *PERPLEXITY, "evaluation.perplexity.length=64", "calibration=wikitext2",
        "calibration.samples=2", "calibration.length=32", "search.samples=2", "search.rounds=1",
    )  # fmt: skip
    with pytest.raises(UserError, match="in the search for a schedule is longer"):
        place.run(*words, "search.max_new_tokens=200", "model.save=true", method="flrc")


def test_calibration_and_timing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    text = (*PERPLEXITY, "evaluation.perplexity.length=64", "calibration=wikitext2")
    with pytest.raises(UserError, match="a calibration sequence is longer"):
        place.run(*text, "calibration.samples=2", "calibration.length=65", method="svdllm")
    timing = ("evaluation=[efficiency]", "evaluation.efficiency.batch_sizes=[1]")
    with pytest.raises(UserError, match="a timed prompt with its reply is longer"):
        place.run(*timing, "evaluation.efficiency.prompt_tokens=60",
                  "evaluation.efficiency.new_tokens=6")  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        (*PERPLEXITY, "evaluation.perplexity.length=32"),
        DIALOGUES,
        ("evaluation=[zeroshot]", "evaluation.zeroshot.tasks=[arc_easy]", "data=sample"),
    ],
)
def test_tokens_beyond_the_embedding(words: tuple[str, ...], tmp_path: Path) -> None:
    """The byte tokenizer's letters end at 101 or so, below its special tokens."""
    place = Place(tmp_path, vocab_size=60, max_position_embeddings=4096,
                  bos_token_id=1, eos_token_id=2)  # fmt: skip
    with pytest.raises(UserError, match=r"(?s)outside the model's vocabulary.*0 to 59"):
        place.run(*words)


def test_a_padding_token_that_the_model_lacks(tmp_path: Path) -> None:
    """Prompts of a batch are padded, and so are replies that have ended: with a known token."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=258, intermediate_size=96, bos_token_id=256, eos_token_id=257,
                    initializer_range=0.3, **SIZES)
    ).eval()  # fmt: skip
    prompts = [list(range(3, 3 + length)) for length in (4, 9, 14, 6)]
    known = byte_tokenizer()
    known.pad_token = "</s>"
    expected = generate_replies(Decoder(model, known, None), prompts, batch_size=1,
                                max_new_tokens=12)  # fmt: skip
    lacking = byte_tokenizer()
    assert lacking.pad_token_id == 258
    model.generation_config.eos_token_id = [257, expected[0][3], expected[1][6]]
    ends = generate_replies(Decoder(model, known, None), prompts, batch_size=1, max_new_tokens=12)
    assert len({len(reply) for reply in ends}) > 1  # some end before others
    found = generate_replies(Decoder(model, lacking, None), prompts, batch_size=4,
                             max_new_tokens=12)  # fmt: skip
    assert found == ends


def test_a_compressed_model_is_not_asked_beyond_its_context(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["rotary"](
        vocab_size=260, max_position_embeddings=64)).eval()  # fmt: skip
    compressed, _ = flrc.compress(
        model, byte_tokenizer(), method="svd", rate=0.3, calibration=["the red fox"] * 2,
        overrides=[f"paths.runs={tmp_path / 'r'}", f"paths.cache={tmp_path / 'c'}"],
    )  # fmt: skip
    assert isinstance(flrc.generate(compressed, "hi", max_new_tokens=4), str)
    with pytest.raises(UserError, match=r"(?s)longer than the model's context.*64"):
        flrc.generate(compressed, "hi", max_new_tokens=64)


@pytest.mark.parametrize(
    ("kind", "settings", "context"),
    [
        ("gpt2", {"n_positions": 77}, 77),
        ("mpt", {"max_seq_len": 78}, 78),
        ("ctrl", {"n_positions": 79}, 79),
        ("trocr", {"max_position_embeddings": 80}, 80),
        ("rwkv", {"context_length": 81}, 81),
        ("roberta", {"max_position_embeddings": 66, "pad_token_id": 1}, 64),
        (
            "llama",
            {
                "max_position_embeddings": 64,
                "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4},
            },
            256,
        ),
        (
            "llama",
            {
                "max_position_embeddings": 512,
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "rope_theta": 1e4,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
            },
            512,
        ),
        ("gemma3", {"text_config": {"max_position_embeddings": 82, "vocab_size": 90}}, 82),
        ("bloom", {}, None),
        ("mamba2", {}, None),
    ],
)
def test_where_configs_keep_their_context_length(
    kind: str, settings: dict[str, Any], context: int | None
) -> None:
    limits = Limits.of(AutoConfig.for_model(kind, **settings))
    assert limits.context == context
    assert limits.vocabulary == (90 if kind == "gemma3" else AutoConfig.for_model(kind).vocab_size)


def test_nothing_is_fed() -> None:
    with pytest.raises(UserError, match="is empty"):
        TokenSequences("a prompt", [[1], []], "").check(Limits(None, None), "a model")


def test_roberta_has_fewer_positions_than_its_config_says(tmp_path: Path) -> None:
    """Its first position comes after the padding token's: 64 of 66 are left."""
    from transformers import RobertaConfig

    config = RobertaConfig(vocab_size=260, intermediate_size=96, max_position_embeddings=66,
                           is_decoder=True, pad_token_id=1, **SIZES)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    most = Limits.of(config).context
    assert most == 64
    model(torch.full((1, most), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 5))


def test_a_digest_is_of_the_tokens_and_their_borders() -> None:
    digests = {
        TokenSequences("", ids, "").digest()
        for ids in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1, 2], [4]], [[3], [1, 2]])
    }
    assert len(digests) == 5
    assert (
        TokenSequences("", [[1, 2], [3]], "").digest()
        == TokenSequences(
            "", [torch.tensor([1, 2]), torch.tensor([3], dtype=torch.int32)], ""
        ).digest()
    )
