"""Tiny models, tiny data and composed configurations; nothing here needs a network or another folder."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("WANDB_MODE", "offline")

from jaxtyping import install_import_hook

# Before anything imports them: the pure modules check the shapes of all that they are given and return.
PURE = (
    "flrc.calibration.statistics",
    "flrc.decomposition.factors",
    "flrc.decomposition.truncation",
    "flrc.models.lowrank",
)
install_import_hook(PURE, "beartype.beartype")

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.config import RunConfig
    from flrc.data.folder import Folder

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"

torch.set_num_threads(2)
set_hypothesis_home_dir(tempfile.mkdtemp(prefix="hypothesis-"))  # not in the repository
settings.register_profile(
    "flrc",
    max_examples=40,
    database=None,
    deadline=None,  # the machine may be busy
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("flrc")

_OWN_CACHES = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".git"}
_LEFTOVERS = ("runs", "outputs", "multirun", "wandb", ".cache", ".hypothesis")
_written: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: notes every file or folder that this process makes inside the repository."""
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and any(c in mode for c in "wax+")) or (
            isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
    elif event in ("os.mkdir", "os.rename"):
        path, writes = arguments[0 if event == "os.mkdir" else 1], True
    else:
        return
    if not writes or not isinstance(path, str | os.PathLike):
        return
    whole = os.path.abspath(path)
    if whole.startswith(f"{ROOT}{os.sep}") and not _OWN_CACHES & set(Path(whole).parts):
        _written.append(whole)


sys.addaudithook(_watch)


@pytest.fixture(scope="session", autouse=True)
def _repository_stays_clean() -> Iterator[None]:
    """No test leaves anything in the repository: neither this process nor, by name, a subprocess."""
    before = {name for name in _LEFTOVERS if (ROOT / name).exists()}
    yield
    assert not _written, f"tests wrote into the repository: {sorted(set(_written))}"
    left = {name for name in _LEFTOVERS if (ROOT / name).exists()} - before
    assert not left, f"tests left {sorted(left)} in the repository"


_models: dict[tuple[str, str, float], PreTrainedModel] = {}


def make_model(
    shape: str = "tiny_llama_gqa", dtype: str = "float32", spread: float = 0.2
) -> PreTrainedModel:
    """A model of a tiny shape, ready for work, that the caller may change.

    ``spread`` is the standard deviation of its weights: the default is ten times the usual one, so that attention
    and logits are far from uniform and a wrong mask or rank shows.
    """
    key = (shape, dtype, spread)
    if key not in _models:
        from transformers import AutoConfig, AutoModelForCausalLM

        from flrc.models.shapes import SHAPES

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = AutoConfig.for_model(**SHAPES[shape], initializer_range=spread)
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
            for name, parameter in model.named_parameters():
                if name.endswith(
                    ".bias"
                ):  # transformers starts them at 0: a dropped one would not show
                    torch.nn.init.normal_(parameter, std=0.5)
        _models[key] = model.eval().requires_grad_(False)
    return copy.deepcopy(_models[key])


@pytest.fixture(name="make_model", scope="session")
def _make_model() -> Callable[..., PreTrainedModel]:
    """:func:`make_model`."""
    return make_model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte."""
    from flrc.models.byte_tokenizer import byte_tokenizer

    return byte_tokenizer()


@pytest.fixture
def sequences() -> list[torch.Tensor]:
    """Calibration sequences of different lengths."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (n,), generator=generator) for n in (40, 23, 57)]


def write_data(root: Path, seed: int = 0) -> Path:
    """A folder of data sets in the published columns, small and made up."""
    draw = random.Random(seed)
    words = ["the", "red", "fox", "ran", "over", "a", "hill", "and", "slept", "Anna", "Tom", "soon"]

    def text(count: int) -> str:
        return " ".join(draw.choice(words) for _ in range(count))

    def dialogue(index: int) -> dict[str, str]:
        turns = [f"#Person{1 + i % 2}#: {text(4 + draw.randrange(8))}." for i in range(3)]
        return {"id": f"item_{index}", "dialogue": "\n".join(turns), "summary": text(6) + "."}

    rows: dict[str, list[dict[str, str]]] = {
        f"{name}/{split}": [{"text": text(30)} for _ in range(60)]
        for name, splits in (
            ("wikitext2", ("train", "validation", "test")),
            ("c4", ("train", "validation")),
        )
        for split in splits
    }
    rows |= {
        f"dialogsum/{split}": [dialogue(i) for i in range(12)]
        for split in ("train", "validation", "test")
    }
    for name, lines in rows.items():
        path = root / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data that most tests share; do not change it (see :func:`write_data`)."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(data_root: Path) -> Folder:
    """The data source over ``data_root``."""
    from flrc.data.folder import Folder

    return Folder(root=str(data_root))


def compose(*overrides: str) -> RunConfig:
    """Compose and validate a configuration as ``run.py`` does."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    from flrc.config import RunConfig, register

    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_object(hydra_compose("config", overrides=list(overrides)))
    assert isinstance(config, RunConfig)
    return config


@pytest.fixture
def run_config(tmp_path: Path, data_root: Path) -> Callable[..., RunConfig]:
    """Composes a run of the tiny model on the tiny data, everything in ``tmp_path``; takes overrides."""

    def make(*overrides: str) -> RunConfig:
        base = [
            "model=tiny",
            "data=folder",
            f"data.root={data_root}",
            "calibration=wikitext2",
            "calibration.samples=4",
            "calibration.length=64",
            "evaluation=[perplexity]",
            "device=cpu",
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={tmp_path / 'cache'}",
        ]
        groups = {override.split("=")[0] for override in overrides}
        # A key of the default calibration need not exist in another one.
        kept = [b for b in base if b.split("=")[0] not in groups]
        config = compose(*kept, *overrides)
        perplexity: Any = config.evaluation.get("perplexity")
        if perplexity is not None:
            perplexity.length = min(perplexity.length, 256)
        return config

    return make
