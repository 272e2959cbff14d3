"""A model by its name: on the Hub, in a folder, in a GGUF file; in commands, sweeps and Python."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors
from hydra.types import RunMode
from tiny import CONF

import flrc
from flrc.config import register
from flrc.core import network
from flrc.errors import UserError
from flrc.library.compression import configuration
from flrc.models.sources.hub import Hub
from flrc.models.sources.local import Local
from flrc.running.identity import run_id
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.model_names import is_name, named_models
from flrc.sweeps.override_checks import check_overrides
from flrc.sweeps.overrides import parse

COMMIT = "a" * 40
SMALL = ["method=svd", "data=sample", "device=cpu", "evaluation=[perplexity]"]


@pytest.fixture
def saved(
    make_model: Callable[..., Any], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Saved models in the current folder: ``model``, ``other/model`` and ``owner/name``."""
    monkeypatch.chdir(tmp_path)
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    shutil.copytree(tmp_path / "model", tmp_path / "owner" / "name")
    model = make_model()
    model.lm_head.weight.mul_(2)
    model.save_pretrained(tmp_path / "other" / "model")
    tokenizer.save_pretrained(tmp_path / "other" / "model")
    return tmp_path


def response(error: type[Exception]) -> Exception:
    made = error.__new__(error)
    Exception.__init__(made, "an answer of the hub")
    return made


def test_what_is_a_name() -> None:
    names = ("Qwen/Qwen2.5-0.5B", "./folder", "/a/b", "~/m", "..", ".", "m.GGUF", "a/b/")
    assert all(is_name(name) for name in names)
    assert not any(is_name(value) for value in ("tiny", "llama3_8b", "smollm", None, ["a/b"], ""))
    overrides = ["model=a/b,tiny,'./c d'", "method=svd", "rate=0.2"]
    assert named_models(parse(overrides)) == ["a/b", "./c d"]
    assert named_models(parse(["model={name: a/b}", "model.path=a/b"])) == []


@pytest.mark.parametrize(
    ("name", "path", "label"),
    [
        ("./model", "model", "model"),
        ("other/model", "other/model", "model"),
        ("other/model/", "other/model", "model"),
        ("owner/name", "owner/name", "name"),  # what exists here is not looked for on the Hub
        ("missing/a/b", "missing/a/b", "b"),
        ("./missing", "missing", "missing"),
        ("weights.gguf", "weights.gguf", "weights"),
        ("owner/weights.Q4.gguf", "owner/weights.Q4.gguf", "weights.Q4"),
    ],
)
def test_paths(name: str, path: str, label: str, saved: Path) -> None:
    if path.endswith(".gguf"):
        (saved / path).touch()
    else:
        (saved / path).mkdir(parents=True, exist_ok=True)
    config = configuration([f"model={name}", *SMALL])
    assert isinstance(config.model, Local)
    assert (config.model.path, config.model.label) == (path, label)
    config = configuration([f"model={saved / name}", *SMALL, "model.label=mine"])
    assert isinstance(config.model, Local)
    assert (config.model.path, config.model.label) == (str(saved / path), "mine")


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("model=./modle", "model=./model"),
        ("model=./other/modl/", "model=./other/model"),
        ("model=ownr/a/b", "check the path"),
        ("model=weihgts.gguf", "model=weights.gguf"),
        ("model=./model/config.json", "model=./model"),
        ("model=model/model.safetensors", "model=./model"),
        ("model='./a modle'", "'model=./a model'"),
        ("model=modle", "did you mean ./modle? model=./modle"),
    ],
)
def test_a_wrong_path_is_corrected_as_it_was_written(given: str, fix: str, saved: Path) -> None:
    (saved / "a model").mkdir()
    (saved / "weights.gguf").touch()
    if given == "model=modle":
        (saved / "modle").mkdir()
    with pytest.raises(UserError) as caught:
        configuration([given, *SMALL])
    assert caught.value.fix == fix
    if caught.value.problem == "the model path does not exist":
        assert caught.value.given == given.replace("'", "")


def test_a_wrong_path_in_a_sweep(saved: Path) -> None:
    register()
    words = ["model=./model,./modle", *SMALL]
    with pytest.raises(UserError, match="does not exist") as caught:
        check_overrides(ConfigLocation(str(CONF)), words, multirun=True)
    assert caught.value.fix == "-m model=./model,./model"
    with pytest.raises(UserError, match=r"fix: +model\.path=model$"):
        configuration(["model=local", "model.path=modle", *SMALL]).model.check_available()


def test_names_on_the_hub(saved: Path) -> None:
    config = configuration(["model=Qwen/Qwen2.5-0.5B", *SMALL, "model.revision=abc"])
    assert isinstance(config.model, Hub)
    assert (config.model.id, config.model.revision) == ("Qwen/Qwen2.5-0.5B", "abc")
    assert config.model.label == "Qwen--Qwen2.5-0.5B"
    assert config.dtype == "float32"
    same = configuration(["model=hub", "model.id=Qwen/Qwen2.5-0.5B", "model.revision=abc", *SMALL])
    assert same.model == config.model
    with pytest.raises(UserError, match="model=OWNER/NAME"):
        configuration(["model=hub", *SMALL])


def test_a_name_is_the_same_run_as_its_path(saved: Path) -> None:
    ids = {
        run_id(configuration([*words, *SMALL]))
        for words in (["model=./model"], ["model=local", "model.path=model"], ["model=owner/name"])
    }
    assert len(ids) == 1
    assert run_id(configuration(["model=other/model", *SMALL])) not in ids


def test_a_folder_that_hides_a_hub_model_is_named(
    saved: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configuration(["model=owner/name", *SMALL])
    (line,) = caplog.messages
    assert "the folder ./owner/name" in line
    other = line.rpartition("on the Hub: ")[2].split()
    assert isinstance(configuration([*other, *SMALL]).model, Hub)
    for name in ("./owner/name", str(saved / "owner" / "name"), "./model", "owner/another"):
        configuration([f"model={name}", *SMALL])
    assert caplog.messages == [line]


@pytest.mark.parametrize("preset", sorted(path.stem for path in CONF.glob("model/llama*.yaml")))
def test_presets_label_their_own_model_only(preset: str) -> None:
    assert configuration([f"model={preset}", *SMALL]).model.label == preset
    other = configuration([f"model={preset}", "model.id=owner/another", *SMALL])
    assert other.model.label == "owner--another"
    assert other.dtype == "float16"


def test_a_path_with_spaces_and_commas(saved: Path) -> None:
    (saved / "model").rename(saved / "a, b (c)=d")
    config = configuration(["model='./a, b (c)=d'", *SMALL, "model.label=mine"])
    config.model.check_available()


def test_compressed_by_name(saved: Path, make_model: Callable[..., Any]) -> None:
    from tiny import make_model as made

    overrides = ["paths.runs=runs", "paths.cache=cache", "device=cpu", "calibration.samples=2"]
    for model in (Path("model"), "owner/name"):
        compressed, record = flrc.compress(model, method="svd", overrides=overrides)
        assert record.meta["command"].startswith(f"flrc.compress({str(model)!r}, ")
    ids = torch.arange(9)[None]
    assert not torch.equal(compressed(ids).logits, made()(ids).logits)
    folders = {path.parent.parent.name for path in Path("runs").rglob("record.json")}
    assert folders == {"model", "name"}


def test_a_commit_is_recorded(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved / "hub" / "models--on--hub"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(COMMIT)
    shutil.copytree(saved / "model", base / "snapshots" / COMMIT)
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(saved / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    record = flrc.run(
        "model=on/hub", *SMALL, "paths.runs=runs", "paths.cache=cache",
        "evaluation.perplexity.windows=1", "evaluation.perplexity.length=64",
    )  # fmt: skip
    assert record.meta["model_commit"] == COMMIT
    assert record.run["config"]["model"]["label"] == "on--hub"
    assert (saved / "runs" / "on--hub").is_dir()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.GatedRepoError, "accept it at hf.co/owner/gone"),
        (errors.RepositoryNotFoundError, "the Hub has no such model"),
        (errors.RevisionNotFoundError, "no such revision"),
        (errors.LocalEntryNotFoundError, "hf download owner/gone --local-dir FOLDER"),
        (errors.OfflineModeIsEnabled, "cannot be reached"),
    ],
)
def test_what_the_hub_refuses(
    error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("transformers has its own words for it") from response(error)

    monkeypatch.setattr("transformers.utils.find_adapter_config_file", refuse)
    with pytest.raises(UserError, match=message):
        Hub(id="owner/gone").check_available()


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries would try again for a minute, for each file."""
    asked = []

    def unreachable(request: Any, timeout: float) -> None:
        asked.append((request.get_method(), timeout))
        raise OSError("no route")

    monkeypatch.setattr(network, "urlopen", unreachable)
    monkeypatch.setenv(network.BY_DEFAULT, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    network.hub_reachable.cache_clear()
    try:
        with pytest.raises(UserError, match="cannot be reached"):
            Hub(id="owner/gone").check_available()
    finally:
        network.hub_reachable.cache_clear()
    assert asked == [("HEAD", network.SECONDS)]


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("https://huggingface.co/Qwen/Qwen2.5-0.5B", "model=Qwen/Qwen2.5-0.5B"),
        ("https://huggingface.co/Qwen/Qwen2.5-0.5B/", "model=Qwen/Qwen2.5-0.5B"),
        ("http://www.hf.co/a/b?library=transformers", "model=a/b"),
        ("hf.co/a/b/tree/main", "model=a/b model.revision=main"),
        ("https://hf.co/a/b/blob/refs%2Fpr%2F3/config.json", "model=a/b model.revision=refs/pr/3"),
        ("huggingface.co/gpt2", "model=hub model.id=gpt2"),
    ],
)
def test_an_address_is_answered_with_the_id(
    given: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for settings in ([f"model='{given}'"], ["model=hub", f"model.id='{given}'"]):
        with pytest.raises(UserError) as caught:
            configuration([*settings, *SMALL])
        assert caught.value.fix == fix
        if given == "huggingface.co/gpt2":
            break  # as an id it is one: of an owner with this name
    with pytest.raises(UserError) as caught:
        flrc.compress(given, method="svd", overrides=["device=cpu"])
    assert caught.value.fix == fix


def test_an_address_in_a_sweep() -> None:
    register()
    given = "model=https://hf.co/a/b,tiny"
    with pytest.raises(UserError) as caught:
        check_overrides(ConfigLocation(str(CONF)), [given, *SMALL], True)
    assert (caught.value.given, caught.value.fix) == (given, "-m model=a/b,tiny")


@pytest.mark.parametrize("name", ["../models/alpha", "a/b/c", "/a/b", "a--b/c", "-a/b", "a/b.git"])
def test_what_is_no_id_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(UserError, match=r"model\.id is not the id") as caught:
        configuration(["model=hub", f"model.id={name}", *SMALL])
    assert caught.value.given == f"model.id={name}"
    path = name if name.startswith((".", "/")) else f"./{name}"
    assert str(caught.value.fix).endswith(f"model={path}")
    assert Hub(id="gpt2").label == "gpt2"


def study(folder: Path, name: str, *defaults: str) -> None:
    """A study ``name`` with these defaults, below ``folder``."""
    lines = ["# @package _global_", "defaults:", *(f"  - {each}" for each in (*defaults, "_self_"))]
    path = folder / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, f"study: {path.stem}", ""]))


def composed(location: ConfigLocation, *overrides: str) -> Any:
    """The model of a command, after its overrides have been checked."""
    register()
    check_overrides(location, overrides)
    return loader(location).load_configuration("config", list(overrides), RunMode.RUN).model


def test_a_study_may_name_its_model_too(saved: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    study(conf, "of_hub", "base/perplexity", "override /model: Qwen/Qwen2.5-0.5B")
    study(conf, "of_folder", "base/perplexity", "override /model: ./model")
    study(conf, "base/mine", "perplexity", "override /model: other/model")
    study(conf, "deep", "base/mine")
    study(conf, "deeper", "deep", "override /model: ./model")
    study(conf, "preset", "base/mine", "override /model: smollm2_135m")
    location = ConfigLocation(str(CONF), "config", str(conf))
    assert composed(location, "experiment=of_hub").id == "Qwen/Qwen2.5-0.5B"
    assert composed(location, "experiment=of_folder").path == "model"
    assert composed(location, "experiment=deep").path == "other/model"
    assert composed(location, "experiment=deeper").path == "model"
    assert composed(location, "experiment=preset").name == "packaged"
    assert composed(location, "experiment=deep", "model=./owner/name").path == "owner/name"


def test_a_model_of_a_study_that_does_not_exist(saved: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    study(conf, "wrong", "base/perplexity", "override /model: ./modle")
    page = "https://huggingface.co/Qwen/Qwen2.5-0.5B"
    study(conf, "page", "base/perplexity", f"override /model: {page}")
    study(conf, "right", "wrong", "override /model: ./model")
    study(conf, "preset", "wrong", "override /model: smollm2_135m")
    location = ConfigLocation(str(CONF), "config", str(conf))
    for name, given, fix in (
        ("wrong", "./modle", "model=./model"),
        ("page", page, "model=Qwen/Qwen2.5-0.5B"),
    ):
        with pytest.raises(UserError) as raised:
            composed(location, f"experiment={name}")
        assert raised.value.given == f"model: {given} in experiment={name}"
        assert raised.value.fix == fix
    for words in (["experiment=wrong", "model=./model"], ["experiment=right"]):
        assert composed(location, *words).path == "model"
    assert composed(location, "experiment=preset").name == "packaged"
