"""Arguments of ``flrc.compress``: used, or rejected before anything is computed or changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import TINY_SHAPES
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, BertForMaskedLM

import flrc
from flrc import pipeline
from flrc.config import RunConfig
from flrc.errors import UserError
from flrc.library.given_sequences import GivenSequences
from flrc.library.in_memory_model import InMemoryModel
from flrc.models.anatomy.placement import wait_on_host

TEXTS = ["the fox that ran over the hill " * 3, "and slept soon after that " * 4]


class Reached(Exception):
    """It passes the checks."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config = config


@pytest.fixture
def only_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``flrc.compress`` up to the first computation."""

    def stop(config: RunConfig) -> None:
        pipeline.check_inputs(config)
        pipeline.prepare(config)
        raise Reached(config)

    monkeypatch.setattr(pipeline, "run_with_model", stop)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", "search=none"]


def on_meta(model: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(model.config)


def without_a_layer(model: Any) -> Any:
    del model.model.layers[1]
    return model


def with_a_bias(model: Any) -> Any:
    model.model.layers[0].mlp.up_proj.bias = torch.nn.Parameter(torch.ones(1))
    return model


def of_two_dtypes(model: Any) -> Any:
    model.model.norm.bfloat16()
    return model


def without_a_row(model: Any) -> Any:
    model.resize_token_embeddings(40)
    model.config.pad_token_id = 258
    return model


def with_a_nan(model: Any) -> Any:
    model.model.norm.weight.data[3] = torch.nan
    return model


def with_a_buffer(model: Any) -> Any:
    model.model.layers[0].register_buffer("scale", torch.ones(3))
    return model


def of_a_subclass(model: Any) -> Any:
    class Louder(type(model)):  # type: ignore[misc]
        pass

    model.__class__ = Louder
    return model


def patched(model: Any) -> Any:
    layer = model.model.layers[0].mlp.up_proj
    plain = layer.forward
    layer.forward = lambda x: 3 * plain(x)
    return model


def patched_as_a_method(model: Any) -> Any:
    layer = model.model.layers[1]
    layer.forward = MethodType(lambda self, x, **_: 3 * x, layer)
    return model


def masked(_: Any) -> Any:
    return BertForMaskedLM(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    )


MODELS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "none": (lambda _: None, "not a model of transformers.*NoneType"),
    "a layer": (lambda _: torch.nn.Linear(3, 3), "not a model of transformers.*Linear"),
    "a class": (type, "not a model of transformers.*type"),
    "no head": (
        lambda m: AutoModel.from_config(m.config),
        "not a causal language model.*LlamaModel",
    ),
    "masked": (masked, "not a causal language model.*BertForMaskedLM"),
    "no weights": (on_meta, "no weights"),
    "a layer gone": (without_a_layer, "does not match its config.*layers.2"),
    "a bias more": (with_a_bias, "does not match its config.*up_proj.bias"),
    "a buffer more": (with_a_buffer, "does not match its config.*layers.0.scale"),
    "a subclass": (of_a_subclass, "code differs from its class.*Louder"),
    "a patched layer": (patched, "code differs from its class.*up_proj.forward"),
    "a patched block": (patched_as_a_method, "code differs from its class.*layers.1.forward"),
    "a config of no model": (without_a_row, "no model can be built.*LlamaConfig"),
    "two dtypes": (of_two_dtypes, "do not all have the same supported dtype.*bfloat16, float32"),
    "an odd dtype": (
        lambda m: m.to(torch.float8_e5m2),
        "do not all have the same supported dtype.*float8_e5m2",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(
    name: str,
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    odd, message = MODELS[name]
    with pytest.raises(UserError, match=f"(?s){message}"):
        flrc.compress(odd(make_model()), tokenizer, calibration=TEXTS, overrides=words)


def compiled_in_place(model: Any) -> None:
    model.compile(backend="eager")


def compiled_forward(model: Any) -> None:
    model.forward = torch.compile(model.forward, backend="eager")


def waiting(model: Any) -> None:
    wait_on_host(model, torch.device("cpu"))


@pytest.mark.parametrize("wrap", [compiled_in_place, compiled_forward, waiting])
def test_wrapped_models(
    wrap: Callable[[Any], None],
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    model = make_model()
    wrap(model)
    with pytest.raises(Reached):
        flrc.compress(model, tokenizer, calibration=TEXTS, overrides=words)


@pytest.mark.parametrize("shape", TINY_SHAPES)
def test_models_of_every_shape_are_what_their_configs_say(
    shape: str, make_model: Callable[..., Any], tokenizer: Any
) -> None:
    InMemoryModel(make_model(shape), tokenizer)


@pytest.mark.parametrize("rate", [0.1 + 0.2, np.float32(0.3), np.float64(0.1) + 0.2])
def test_rates_that_are_computed(
    rate: float,
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    with pytest.raises(Reached) as reached:
        flrc.compress(make_model(), tokenizer, rate=rate, calibration=TEXTS, overrides=words)
    assert reached.value.config.rate == 0.3


def test_a_nan_behind_the_blocks(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str]
) -> None:
    with pytest.raises(UserError, match=r"not finite: model\.norm\.weight"):
        flrc.compress(
            with_a_nan(make_model()), tokenizer, method="svdllm", calibration=TEXTS, overrides=words
        )


def test_what_is_compressed_is_not_compressed_again(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], tmp_path: Path
) -> None:
    model = make_model().train()
    compressed, _ = flrc.compress(
        model, tokenizer, method="svdllm", calibration=TEXTS, overrides=words
    )
    assert not compressed.training
    assert not any(parameter.requires_grad for parameter in compressed.parameters())
    flrc.save(compressed, tmp_path / "kept")
    for again in (compressed, flrc.load(tmp_path / "kept", "cpu")):
        with pytest.raises(UserError, match="compressed already"):
            flrc.compress(again, tokenizer, calibration=TEXTS, overrides=words)


@pytest.mark.parametrize("odd", ["gpt2", 3, object()])
def test_tokenizers(odd: Any, make_model: Callable[..., Any], words: list[str]) -> None:
    with pytest.raises(UserError, match="not a tokenizer"):
        flrc.compress(make_model(), odd, calibration=TEXTS, overrides=words)


CALIBRATIONS: dict[str, tuple[Any, str]] = {
    "a text": ("the whole text", "must be a non-empty list of sequences"),
    "nothing": ([], "must be a non-empty list of sequences"),
    "a number": (3, "must be a non-empty list of sequences"),
    "a tensor of sequences": (
        torch.zeros(2, 9, dtype=torch.long),
        "must be a non-empty list of sequences",
    ),
    "floats": ([torch.rand(9)], "torch.float32"),
    "switches": ([torch.ones(9, dtype=torch.bool)], "torch.bool"),
    "an array of floats": ([np.ones(9)], "ndarray"),
    "a batch": ([torch.zeros(1, 9, dtype=torch.long)], r"\(1, 9\)"),
    "a list of switches": ([[True, False, True]], "entries other than token ids"),
    "a list of texts": ([["a", "b"]], "entries other than token ids"),
    "a negative id": ([[5, -1, 3]], "entries other than token ids"),
    "a dictionary": ([{"input_ids": [1, 2]}], "dict"),
    "no unicode": (["fox \udcff ran away"], "not valid Unicode"),
    "one token": ([torch.tensor([5])], "too short.*sequence 0: 1 tokens"),
    "no token": (["a text", torch.tensor([], dtype=torch.long)], "too short.*sequence 1: 0 tokens"),
    "an unknown token": (
        [torch.tensor([5, 100_000])],
        "outside the model.s vocabulary.*token 100000",
    ),
    "a token below 0": ([torch.tensor([5, -7])], "outside the model.s vocabulary.*token -7"),
    "too long": ([torch.zeros(100_000, dtype=torch.long)], "longer than the model's context"),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibrations(
    name: str,
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    odd, message = CALIBRATIONS[name]
    with pytest.raises(UserError, match=f"(?s){message}"):
        flrc.compress(make_model(), tokenizer, calibration=odd, overrides=words)


def test_ids_are_the_same_however_they_come() -> None:
    ids = [5, 9, 200, 3]
    ways: list[Any] = [ids, tuple(ids), torch.tensor(ids), torch.tensor(ids, dtype=torch.int32)]
    ways += [torch.tensor(ids, dtype=torch.uint8), np.array(ids), np.array(ids, dtype=np.uint16)]
    found = [GivenSequences([way]) for way in ways]
    assert len({calibration.digest for calibration in found}) == 1
    for calibration in found:
        (one,) = calibration.sequences(None, None, 0)  # type: ignore[arg-type]
        assert one.dtype == torch.int64
        assert one.tolist() == ids


OVERRIDES: dict[str, tuple[Any, bool, str]] = {
    "a text": ("rate=0.3", True, "overrides must be a list"),
    "no text": ([3], True, "an override must be a string"),
    "method": (["method=svdllm"], True, "it is an argument, method=..."),
    "rate": (["rate=0.3"], True, "it is an argument, rate=..."),
    "seed with a plus": (["++seed=3"], True, "it is an argument, seed=..."),
    "dry run": (["dry_run=true"], True, "a dry run makes none"),
    "launcher": (["launcher=joblib"], True, "no launcher"),
    "hydra": (["hydra.job.name=x"], True, "no sweep"),
    "launcher by its path": (["hydra/launcher=joblib"], True, "no sweep"),
    "workers": (["workers=2"], True, "no workers"),
    "study": (["experiment=table02"], True, "a study is many runs"),
    "save": (["model.save=true"], True, "flrc.save"),
    "model": (["model=tiny"], True, "the model is given"),
    "part of the model": (["model.label=x"], True, "the model is given"),
    "dtype": (["dtype=bfloat16"], True, "model.to"),
    "device": (["device=cuda"], True, "model.to"),
    "calibration": (["calibration=wikitext2"], True, "calibration sequences are given"),
    "part of calibration": (["calibration.samples=2"], True, "calibration sequences are given"),
    "model by name": (["model=tiny"], False, "the first argument"),
    "a runtime that eats it": (["runtime=offload"], True, "does not keep a model"),
    "settings of no evaluation": (
        ["evaluation.perplexity.windows=2"],
        True,
        r"evaluation=\[perplexity\]",
    ),
    "sweep": (["allocator=uniform,proportional"], True, "allocator"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides(
    name: str,
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    odd, in_memory, message = OVERRIDES[name]
    given: list[Any] = [make_model(), tokenizer] if in_memory else ["tiny"]
    overrides = odd if isinstance(odd, str) else [*words, *odd]
    with pytest.raises(UserError, match=f"(?s){message}"):
        flrc.compress(*given, calibration=TEXTS, overrides=overrides)


def test_what_contradicts_nothing_is_taken(
    make_model: Callable[..., Any], tokenizer: Any, words: list[str], only_checks: None
) -> None:
    with pytest.raises(Reached) as by_name:
        flrc.compress("tiny", overrides=[*words, "model.label=mine", "dtype=float64", "force=true"])
    assert (by_name.value.config.model.label, by_name.value.config.dtype) == ("mine", "float64")
    more = ["calibration.samples=2", "model.partial=true"]
    with pytest.raises(Reached) as in_memory:
        flrc.compress(make_model(), tokenizer, overrides=[*words, *more])
    assert in_memory.value.config.calibration.samples == 2
    assert in_memory.value.config.model.partial
    assert isinstance(in_memory.value.config.model, InMemoryModel)


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**65), st.floats(), st.text(max_size=8),
    st.just(torch.ones(2)), st.just(object()),
)  # fmt: skip
ID = st.one_of(st.integers(0, 255), st.integers(-2, 2**40))
SEQUENCE = st.one_of(
    st.text(max_size=40),
    st.lists(ID, max_size=12),
    st.lists(st.integers(0, 255), min_size=2, max_size=12).map(torch.tensor),
    st.sampled_from([torch.int8, torch.int32, torch.float16, torch.bool]).map(
        lambda dtype: torch.ones(9, dtype=dtype)
    ),
    ANY,
)
GOOD = st.lists(st.integers(0, 255), min_size=2, max_size=12).map(torch.tensor)
WORD = st.one_of(
    st.sampled_from(
        ["allocator=uniform", "rate=0.2", "dtype=float16", "runtime=offload", "placement=host",
         "quantization=int8", "evaluation=[]", "evaluation=[perplexity]", "allocator=replay", "=",
         "", "grouping=shared", "form=pivoted", "decomposition=svd", "paths.cache_limit_gb=nan",
         "-m"]
    ),
    st.text(max_size=9),
    ANY,
)  # fmt: skip


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in five is unusual, so that some calls have only good arguments."""
    return st.integers(0, 4).flatmap(lambda draw: odd if draw == 4 else good)


def test_any_arguments(
    share: float,
    make_model: Callable[..., Any],
    tokenizer: Any,
    words: list[str],
    only_checks: None,
) -> None:
    """One error that says what to do, or a call that passes the checks as requested."""
    models = [make_model(), *(odd(make_model()) for odd, _ in MODELS.values())]
    refused: list[str] = []
    passed: list[RunConfig] = []

    @settings(
        max_examples=int(80 * share),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(
        model=mostly(st.just(0), st.integers(1, len(models) - 1)),
        tokenizer_=mostly(st.just(tokenizer), ANY),
        method=mostly(st.sampled_from(["svdllm", "flrc", "kfac", "svd"]), ANY),
        rate=mostly(st.sampled_from([0.2, 0.35]), ANY),
        calibration=mostly(
            st.lists(GOOD, min_size=1, max_size=3), st.one_of(st.lists(SEQUENCE, max_size=3), ANY)
        ),
        seed=mostly(st.integers(0, 9), ANY),
        more=mostly(st.just([]), st.lists(WORD, max_size=2)),
    )
    def check(
        model: int, tokenizer_: Any, method: Any, rate: Any, calibration: Any, seed: Any, more: Any
    ) -> None:
        try:
            flrc.compress(
                models[model],
                tokenizer_,
                method=method,
                rate=rate,
                calibration=calibration,
                seed=seed,
                overrides=[*words, *more],
            )
        except UserError as error:
            refused.append(str(error))
        except Reached as reached:
            config = reached.config
            assert (config.method.name, config.rate, config.seed) == (method, rate, seed)
            passed.append(config)

    check()
    assert min(len(refused), len(passed)) >= 15 * share, (len(refused), len(passed))
    assert all(len(told.splitlines()[0]) > 10 for told in refused)
