"""``flrc.heal``: a compressed model, tuned on the caller's own texts."""

from __future__ import annotations

import json
import os
import weakref
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from healing import FORMS, case, sequences
from saved_models import saved
from tiny import make_model
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import flrc
from flrc.errors import UserError
from flrc.healing import states as states_module
from flrc.healing.end_to_end import NextTokens
from flrc.healing.trained import embeddings
from flrc.library import dense_teacher, student
from flrc.library.compressed_model import as_model
from flrc.models.checkpoints.checkpoint import Loaded
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.switching import activate
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.shapes import SHAPES
from flrc.quantization.int8 import Int8
from flrc.results.pages.model_card import CARD

TEXTS = [f"the fox that ran over hill {i} and slept soon after that " * 2 for i in range(12)]
FAST: dict[str, Any] = {"passes": 2, "learning_rate": 3e-3, "checks": 2, "generated": 0}
SETTINGS = ["heal.passes=2", "heal.learning_rate=3e-3", "heal.checks=2", "heal.generated=0"]


def unseen(model: Any) -> Tensor:
    return model(input_ids=torch.stack(sequences(3, seed=5))).logits.detach().double()  # type: ignore[no-any-return]


def divergence(dense: Tensor, model: Any) -> float:
    p, q = dense.log_softmax(-1), unseen(model).log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def tensors(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def compressed_case(folder: Path, **how: Any) -> Any:
    """A compressed tiny model without a record, and its targets."""
    made = case(folder, **how)
    targets = made.given.dense.targets
    made.given.replace(targets)
    activate(made.model, made.plans.constant)
    return as_model(Loaded(made.model, byte_tokenizer(), made.plans), None), targets


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", "search=none"]


@pytest.fixture
def heal(tmp_path: Path) -> Callable[..., Any]:
    """``flrc.heal`` with quick settings, in ``tmp_path``."""

    def call(model: Any, texts: Any = None, **arguments: Any) -> Any:
        texts = sequences(20, seed=3) if texts is None else texts
        places = {"cache": tmp_path / "cache", "runs": tmp_path / "runs", "device": "cpu"}
        return flrc.heal(model, texts, **{**places, **FAST, **arguments})

    return call


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
def test_unseen_text_is_modelled_better(
    form: str, dtype: str, heal: Callable[..., Any], tmp_path: Path
) -> None:
    how: dict[str, Any] = {"dtype": dtype, "spread": 0.05}
    model, _ = compressed_case(tmp_path / "case", form=form, **how)
    dense = make_model("tiny_llama_gqa", **how)
    expected, before = unseen(dense), divergence(unseen(dense), model)
    dense.train()
    tuned = heal(model.train(), sequences(20, length=32, seed=3), teacher=dense)
    assert tuned is model
    assert dense.training
    assert not tuned.training
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    assert divergence(expected, tuned) < 0.97 * before
    pivoted = [layer for layer in tuned.modules() if isinstance(layer, PivotedLinear)]
    assert bool(pivoted) == ("pivoted" in form)
    assert all(layer.largest_coefficient <= 1.25 for layer in pivoted)
    flrc.save(tuned, tmp_path / "saved")
    assert torch.equal(unseen(flrc.load(tmp_path / "saved", "cpu")), unseen(tuned))


@pytest.mark.parametrize("form", ["two_factor", "pivoted"])
def test_every_plan_of_a_schedule_is_tuned(
    form: str, heal: Callable[..., Any], tmp_path: Path
) -> None:
    ranks = (6, 9, 4)
    plain, _ = compressed_case(tmp_path / "a", form=form, ranks=ranks, dtype="float32")
    model, _ = compressed_case(tmp_path / "b", form=form, ranks=ranks, dtype="float32")
    dense = make_model()
    tuned = heal(model, teacher=dense)
    assert next(m for m in tuned.modules() if hasattr(m, "rank")).rank == ranks[0]
    for plan in tuned.plans.all:
        activate(plain, plan)
        activate(tuned, plan)
        assert divergence(unseen(dense), tuned) < divergence(unseen(dense), plain)


@pytest.mark.parametrize("method", ["svdllm", "kfac_skip", "flrc"])
def test_a_run_that_heals_gives_the_same(
    method: str, heal: Callable[..., Any], words: list[str], tokenizer: Any, tmp_path: Path
) -> None:
    texts = sequences(12, length=24)
    given: dict[str, Any] = {"method": method, "rate": 0.4, "calibration": texts[:8], "seed": 3}
    plain, record = flrc.compress(make_model(), tokenizer, **given, overrides=words)
    tuned = heal(plain, texts, teacher=make_model(), seed=3)
    run, healed = flrc.compress(
        make_model(), tokenizer, **given, held_out=texts[8:],
        overrides=[*words, "heal=distilled", *SETTINGS],
    )  # fmt: skip
    assert same(tensors(run), tensors(tuned))
    assert healed.run["id"] != record.run["id"]
    ours, theirs = (dict(r.results["healing"]) for r in (tuned.flrc.record, healed))
    for one in (ours, theirs):
        for check in one["distilled"]["checks"]:
            del check["seconds"]
    assert {key: ours[key] for key in theirs} == theirs
    assert ours["sequences"] == {"tuned_on": 8, "held_out": 4}
    # What the calibration sees is the same: its statistics are not collected again.
    assert len(list((tmp_path / "cache" / "statistics").glob("*/inputs.json"))) == 1


def test_teachers_of_the_record_in_memory_and_by_name(
    heal: Callable[..., Any], words: list[str], tmp_path: Path
) -> None:
    overrides = [*words, "device=cpu"]
    folder = saved(tmp_path / "base")
    given: dict[str, Any] = {"method": "svdllm", "rate": 0.4, "calibration": TEXTS}
    model, record = flrc.compress(folder, **given, overrides=overrides)
    flrc.save(model, tmp_path / "kept")
    by_record = heal(model, TEXTS)
    dense = dense_teacher.load_model(
        dense_teacher.configuration([f"model={folder}"]).model, "float32", torch.device("cpu")
    )
    others = {
        # The record beside a checkpoint has no paths; that of the run, in the folder of runs, has.
        "a path, and the record of the run": heal(tmp_path / "kept", TEXTS),
        "in memory": heal(tmp_path / "kept", TEXTS, teacher=dense, runs=tmp_path / "none"),
        "by its path": heal(tmp_path / "kept", TEXTS, teacher=folder, runs=tmp_path / "none"),
    }
    for how, other in others.items():
        assert same(tensors(by_record), tensors(other)), how
        assert other.flrc.record.run["id"] == record.run["id"]
    labels = [m.flrc.record.results["healing"]["teacher"]["label"] for m in others.values()]
    assert labels == ["base", "llama", "base"]
    # The checkpoint itself is as it was.
    assert not same(tensors(flrc.load(tmp_path / "kept", "cpu")), tensors(by_record))


def test_a_model_of_the_hub_is_found_at_its_commit(
    heal: Callable[..., Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after its branch has moved on to other weights."""
    old, new = "0" * 40, "1" * 40
    base = tmp_path / "hub" / "models--owner--name"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(old)
    saved(base / "snapshots" / old)
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given: dict[str, Any] = {"method": "svdllm", "rate": 0.4, "calibration": TEXTS}
    model, _ = flrc.compress("owner/name", **given, overrides=[*words, "device=cpu"])
    (base / "refs" / "main").write_text(new)
    saved(base / "snapshots" / new, hidden_size=64)
    results = heal(model, TEXTS).flrc.record.results["healing"]
    assert results["teacher"]["label"] == "owner--name"
    with pytest.raises(UserError, match=r"(?s)the teacher.*teacher=\.\.\."):
        heal(model, TEXTS, teacher="owner/name")  # the new one


def test_blocks_may_wait_on_the_host(
    heal: Callable[..., Any], words: list[str], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"method": "svdllm", "rate": 0.4, "calibration": TEXTS}
    tuned = []
    for placement in ("device", "host"):
        overrides = [*words, "device=cpu", f"placement={placement}"]
        model, _ = flrc.compress("tiny", **given, overrides=overrides)
        tuned.append(tensors(heal(model, TEXTS, cache=tmp_path / placement)))
    assert same(*tuned)


def test_a_full_disk(
    heal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = compressed_case(tmp_path / "case", dtype="float32")
    before = tensors(model)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 0, 10**5))
    with pytest.raises(UserError, match="not enough free disk space"):
        heal(model, teacher=make_model())
    assert same(before, tensors(model))


def test_the_disk_space_that_is_asked_for(
    heal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a state and the one that replaces it."""
    monkeypatch.setattr(states_module, "SAVED_AFTER", 0.0)
    monkeypatch.setattr(states_module, "SAVING", 0.0)
    asked, used = [], []
    monkeypatch.setattr(
        "flrc.core.cache.StageCache.require_space", lambda _, needed, __: asked.append(needed)
    )

    def watched(source: Path, target: Path) -> None:
        used.append(sum(f.stat().st_size for f in Path(target).parent.glob("*") if f.is_file()))
        replaced(source, target)

    replaced = os.replace
    monkeypatch.setattr("flrc.core.cache.os.replace", watched)
    model, _ = compressed_case(tmp_path / "case", dtype="float32")
    heal(model, teacher=make_model())
    outer = {id(p) for p in embeddings(model)}
    inner = sum(p.numel() for p in model.parameters() if id(p) not in outer)
    whole = sum(p.numel() for p in model.parameters())
    headers = 20_000 * 4
    assert max(used) - headers <= asked[0] * inner / whole < 1.2 * max(used)


def test_the_second_call_is_answered_from_the_cache(
    heal: Callable[..., Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"method": "svdllm", "rate": 0.4, "calibration": TEXTS}
    model, _ = flrc.compress("tiny", **given, overrides=[*words, "device=cpu"])
    flrc.save(model, tmp_path / "kept")
    tuned = heal(model, TEXTS)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(dense_teacher, "load_model", never)
    monkeypatch.setattr(NextTokens, "backward", never)
    again = heal(tmp_path / "kept", TEXTS)
    assert same(tensors(tuned), tensors(again))
    assert again.flrc.record.results["healing"] == tuned.flrc.record.results["healing"]
    for other in ({"seed": 1}, {"held_out": 3}, {"texts": TEXTS[::-1]}, {"passes": 1}):
        with pytest.raises(AssertionError, match="computed again"):
            heal(tmp_path / "kept", **{"texts": TEXTS, **other})


def test_the_two_models_are_never_in_memory_together(
    heal: Callable[..., Any], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"method": "svdllm", "rate": 0.4, "calibration": TEXTS}
    model, _ = flrc.compress("tiny", **given, overrides=[*words, "device=cpu"])
    flrc.save(model, tmp_path / "kept")
    del model
    known: list[tuple[str, Any]] = []

    def watched(kind: str, loads: Callable[..., Any]) -> Callable[..., Any]:
        def load(*arguments: Any, **options: Any) -> Any:
            alive = [k for k, reference in known if k != kind and reference() is not None]
            assert not alive, f"{kind} is loaded beside {alive}"
            loaded = loads(*arguments, **options)
            vars(loaded)["cycle"] = [loaded]  # as blocks have that wait on the host
            known.append((kind, weakref.ref(loaded)))
            return loaded

        return load

    monkeypatch.setattr(dense_teacher, "load_model", watched("teacher", dense_teacher.load_model))
    monkeypatch.setattr(student, "load", watched("student", student.load))
    heal(tmp_path / "kept", TEXTS)
    assert [kind for kind, _ in known] == ["student", "teacher", "student"]


class Killed(Exception):
    """As if the user had interrupted it."""


def test_an_interrupted_call_leaves_the_model_and_is_continued(
    heal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "SAVED_AFTER", 0.0)
    monkeypatch.setattr(states_module, "SAVING", 0.0)
    how: dict[str, Any] = {"form": "pivoted", "dtype": "bfloat16"}
    dense = make_model(dtype="bfloat16")
    whole, _ = compressed_case(tmp_path / "a", **how)
    heal(whole, teacher=dense, cache=tmp_path / "other")
    model, _ = compressed_case(tmp_path / "b", **how)
    before, original, steps = tensors(model), NextTokens.backward, []

    def killing(self: NextTokens, step: int) -> float:
        if step == 5:
            raise Killed
        return original(self, step)

    monkeypatch.setattr(NextTokens, "backward", killing)
    with pytest.raises(Killed):
        heal(model, teacher=dense)
    assert same(before, tensors(model))

    def counting(self: NextTokens, step: int) -> float:
        steps.append(step)
        return original(self, step)

    monkeypatch.setattr(NextTokens, "backward", counting)
    heal(model, teacher=dense)
    assert steps == list(range(5, 32))
    assert same(tensors(whole), tensors(model))
    (entry,) = (tmp_path / "cache" / "healed").glob("*/")
    names = sorted(path.name for path in entry.iterdir())
    assert names == ["healed.safetensors", "healing.json", "inputs.json"]


@pytest.mark.parametrize("form", ["two_factor", "pivoted"])
def test_a_failure_leaves_modes_and_plans(
    form: str, heal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the weights; what a killed call has left of them is removed later."""
    how: dict[str, Any] = {"form": form, "ranks": (6, 9), "dtype": "float32"}
    model, _ = compressed_case(tmp_path / "case", **how)
    other = model.plans.all[-1]
    activate(model, other)
    model.train().model.norm.eval()
    norm = model.model.norm.weight.requires_grad_(True)

    def failing(*_: Any) -> float:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(NextTokens, "backward", failing)
        with pytest.raises(Killed):
            heal(model, teacher=make_model())
    layers = low_rank_layers(model)
    assert {layers[name].rank for name in layers} == {9}
    assert model.training
    assert not model.model.norm.training
    assert [p is norm for p in model.parameters() if p.requires_grad] == [True]
    flrc.save(model, tmp_path / "kept")
    (entry,) = (tmp_path / "cache" / "healed").glob("*/")
    (entry / "untuned.safetensors").write_bytes(b"of a killed call")
    heal(tmp_path / "kept", teacher=make_model())
    assert [path.name for path in entry.parent.rglob("untuned*")] == []


def test_an_answer_of_the_cache_is_ready_for_use(heal: Callable[..., Any], tmp_path: Path) -> None:
    """In evaluation mode and without gradients, as after a tuning."""
    first, _ = compressed_case(tmp_path / "a", dtype="float32")
    model, _ = compressed_case(tmp_path / "b", dtype="float32")
    heal(first, teacher=make_model())
    heal(model.train().requires_grad_(True), teacher=make_model())
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_record_claims_no_number_of_other_weights(
    heal: Callable[..., Any], words: list[str], tmp_path: Path
) -> None:
    perplexity = ["evaluation=[perplexity]", "evaluation.perplexity.length=64"]
    overrides = [*words, "device=cpu", *perplexity, "evaluation.perplexity.windows=1"]
    model, record = flrc.compress(
        "tiny", method="svdllm", rate=0.4, calibration=TEXTS, overrides=overrides
    )
    measured = record.results["measurements"]
    assert measured
    same_weights = heal(model, TEXTS, passes=0)
    assert same_weights.flrc.record.results["measurements"] == measured
    tuned = heal(model, TEXTS)
    results = tuned.flrc.record.results
    assert results["measurements"] == []
    assert results["healing"]["distilled"]["chosen"] > 0
    assert results["healing"]["before"]["distilled"]["losses"] == []
    assert record.results["measurements"] == measured  # the run's own
    assert "healing" not in record.results
    flrc.save(tuned, tmp_path / "kept")
    card = (tmp_path / "kept" / CARD).read_text()
    assert "Nothing on these weights" in card
    assert "perplexity" not in card.partition("## How")[0]
    assert "then tuned by `flrc.heal` on 8 other sequences, with 4 more held out" in card
    again = flrc.load(tmp_path / "kept", "cpu").flrc.record
    assert again is not None
    assert again.results["healing"]["distilled"] == results["healing"]["distilled"]
    assert again.results["healing"]["settings"]["learning_rate"] == 3e-3


def test_long_texts_are_cut(heal: Callable[..., Any], tmp_path: Path) -> None:
    long = torch.cat(sequences(3, length=50))  # 150: four windows of 40, the last one shorter
    texts = [long, *sequences(2, length=41)]  # 41: the second window would have one token
    cut = [*long.split(40), *(ids[:40] for ids in texts[1:])]
    models = []
    for name, given in (("a", texts), ("b", cut)):
        model, _ = compressed_case(tmp_path / name, dtype="float32")
        heal(model, given, teacher=make_model(), length=40, cache=tmp_path / name, held_out=2)
        models.append(tensors(model))
    assert same(*models)
    assert [len(window) for window in cut] == [40, 40, 40, 30, 40, 40]


def of_seed(seed: int) -> Any:
    return dense_teacher.configuration(["model=tiny", f"model.seed={seed}"]).model.load("float32")


def of_vocabulary(size: int) -> Any:
    values = {**SHAPES["tiny_llama_gqa"], "vocab_size": size}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a mistyped setting": ({"lerning_rate": 1e-4}, "no setting 'lerning_rate'.*learning_rate"),
    "a setting of another type": ({"passes": "many"}, "passes has the wrong type.*'many'.*int"),
    "a setting out of range": ({"warmup": 2.0}, "warmup is out of range"),
    "an optimizer": ({"optimizer": "adam"}, "heal.optimizer.*nearest: adamw"),
    "nothing held out": ({"held_out": 0}, "held_out is out of range"),
    "few texts": ({"texts": TEXTS[:4]}, "too few sequences.*4 sequences.*5 sequences or more"),
    "one text": ({"texts": "the whole text"}, "texts must be a non-empty list"),
    "floats": ({"texts": [torch.rand(9)]}, "a text to tune on is neither.*torch.float32"),
    "a token": ({"texts": [torch.tensor([5, 100_000])] * 6}, "outside the model's vocabulary"),
    "a length": ({"length": 100_000}, "length is out of range.*context length"),
    "no length": ({"length": 1}, "length is out of range"),
    "no such teacher": ({"teacher": "./nowhere"}, "teacher, the dense.*does not exist.*teacher="),
    "a mistyped teacher": ({"teacher": "tiiny"}, "the teacher.*no option 'tiiny'.*teacher="),
    "a number": ({"teacher": 3}, "the teacher.*not a model of transformers.*teacher="),
    "another head": ({"teacher": lambda: of_seed(1)}, "the teacher's head is not.*teacher="),
    "another vocabulary": (
        {"teacher": lambda: of_vocabulary(300)}, "vocabulary of the compressed.*teacher=",
    ),
    "another dtype": ({"teacher": lambda: make_model(dtype="bfloat16")}, r"teacher\.to\(torch.fl"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, heal: Callable[..., Any], tmp_path: Path) -> None:
    arguments, message = MISTAKES[name]
    model, _ = compressed_case(tmp_path / "case", dtype="float32")
    before = tensors(model)
    made = {key: value() if callable(value) else value for key, value in arguments.items()}
    given = {"teacher": None if "texts" in made else make_model(), **made}
    with pytest.raises(UserError, match=f"(?s){message}"):
        heal(model, **given)
    assert same(before, tensors(model))


def test_models_that_cannot_be_tuned(
    heal: Callable[..., Any], words: list[str], tokenizer: Any, tmp_path: Path
) -> None:
    model, targets = compressed_case(tmp_path / "case", dtype="float32")
    with pytest.raises(UserError, match=r"(?s)without the record.*teacher=MODEL"):
        heal(model)
    with pytest.raises(UserError, match=r"(?s)compressed already.*teacher="):
        heal(model, teacher=model)
    with pytest.raises(UserError, match="not a compressed model"):
        heal(make_model(), teacher=make_model())
    with pytest.raises(UserError, match="no such folder"):
        heal(tmp_path / "nowhere")
    Int8().quantize(model, targets)
    with pytest.raises(UserError, match=r"(?s)quantized.*flrc\.heal first"):
        heal(model, teacher=make_model())
    in_memory, _ = flrc.compress(
        make_model(), tokenizer, method="svdllm", calibration=TEXTS, overrides=words
    )
    with pytest.raises(UserError, match=r"(?s)was compressed in memory.*teacher=MODEL"):
        heal(in_memory)
    base = saved(tmp_path / "base")
    model, _ = flrc.compress(
        base, method="svdllm", calibration=TEXTS, overrides=[*words, "device=cpu"]
    )
    saved(base, hidden_size=64)
    with pytest.raises(UserError, match=r"(?s)its files have changed.*teacher=\.\.\."):
        heal(model)
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"(?s)the teacher.*path does not exist.*teacher=\.\.\."):
        heal(model)


HELD_OUT: dict[str, tuple[Any, list[str], str]] = {
    "none": (None, ["heal=distilled"], r"needs 4 sequences.*held_out=\[\.\.\.\]"),
    "too few": (TEXTS[8:10], ["heal=distilled"], r"2 sequences.*4.*heal\.held_out=2"),
    "nothing is healed": (TEXTS[8:], [], "nothing reads the held-out sequences"),
    "seen": (TEXTS[7:11], ["heal=distilled"], "sequence 0.*has not seen"),
    "a text": ("text", ["heal=distilled"], "held_out must be a non-empty list"),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_sequences_of_a_run(name: str, words: list[str], tokenizer: Any) -> None:
    held_out, overrides, message = HELD_OUT[name]
    model = make_model()
    before = tensors(model)
    with pytest.raises(UserError, match=f"(?s){message}"):
        flrc.compress(
            model, tokenizer, method="svdllm", calibration=TEXTS[:8], held_out=held_out,
            overrides=[*words, *overrides],
        )  # fmt: skip
    assert same(before, tensors(model))


def test_held_out_sequences_belong_to_given_ones(words: list[str], tokenizer: Any) -> None:
    with pytest.raises(UserError, match="without calibration sequences"):
        flrc.compress(make_model(), tokenizer, held_out=TEXTS, overrides=words)


def test_other_held_out_sequences_are_another_run(words: list[str], tokenizer: Any) -> None:
    ids = set()
    for held_out in (TEXTS[8:10], TEXTS[10:]):
        _, record = flrc.compress(
            make_model(), tokenizer, method="svdllm", calibration=TEXTS[:8], held_out=held_out,
            overrides=[*words, "heal=distilled", "heal.held_out=2", "heal.passes=0"],
        )  # fmt: skip
        ids.add(record.run["id"])
        assert "2 held-out sequences" in record.meta["command"]
    assert len(ids) == 2


def test_sequences_that_the_teacher_generates(heal: Callable[..., Any], tmp_path: Path) -> None:
    """They are counted, and made once for all tunings that want the same ones."""
    dense = make_model("tiny_llama_gqa", "float32", 0.2)
    model, _ = compressed_case(tmp_path, dtype="float32")
    for passes in (1, 2):
        heal(model, teacher=dense, generated=1, passes=passes)
    files = (tmp_path / "cache" / "healed").glob("*/healing.json")
    found = sorted((json.loads(file.read_text())["distilled"] for file in files), key=str)
    assert sorted(len(one["losses"]) for one in found) == [16 * 3, 2 * 16 * 3]
    assert [one["generated"] for one in found] == [16 * 2 * 4] * 2
    made = tmp_path / "cache" / "generated"
    (stored,) = made.glob("*/generated.safetensors")
    # Another dtype has states of its own, also if the teacher is known by its files alone.
    assert json.loads((stored.parent / "inputs.json").read_text())["inputs"]["dtype"] == "float32"
