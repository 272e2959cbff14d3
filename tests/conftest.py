"""Fixtures for all tests; none of them needs a network or files outside the repository."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from absl import logging as absl_logging
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from jaxtyping import install_import_hook
from tiny import ROOT, compose, make_model, write_data

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.config import RunConfig
    from flrc.data.folder import Folder

gc.disable()  # until all modules are imported
os.environ["HF_HUB_OFFLINE"] = "1"
# Commands in messages are then named "python ...", as in an activated environment.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
os.environ.setdefault("WANDB_MODE", "offline")

# Before anything imports them: the pure modules check the shapes of what they take and return.
PURE = (
    "flrc.calibration.statistics",
    "flrc.decomposition.factors",
    "flrc.decomposition.truncation",
    "flrc.form.pivot_columns",
    "flrc.models.layers.low_rank_linear",
    "flrc.models.layers.pivoted_linear",
    "flrc.refine.weight_correction",
)
install_import_hook(PURE, "beartype.beartype")

# rouge-score brings absl, whose handler closes its stream when logging is set up and sys.stderr
# differs: under pytest that is pytest's own file. It does not close this stream.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__

torch.set_num_threads(1)
set_hypothesis_home_dir(tempfile.mkdtemp(prefix="hypothesis-"))  # not in the repository
settings.register_profile(
    "flrc",
    max_examples=100,
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
    """Audit hook: records every file or folder that this process creates inside the repository."""
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


def pytest_collection_finish() -> None:
    """What the modules of all tests have made stays: the garbage collector need not examine it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _repository_stays_clean() -> Iterator[None]:
    """No test leaves files in the repository, neither from this process nor from a subprocess."""
    before = {name for name in _LEFTOVERS if (ROOT / name).exists()}
    yield
    assert not _written, f"tests wrote into the repository: {sorted(set(_written))}"
    left = {name for name in _LEFTOVERS if (ROOT / name).exists()} - before
    assert not left, f"tests left {sorted(left)} in the repository"


@pytest.fixture(params=[0.3, pytest.param(1.0, marks=pytest.mark.slow)], ids=["few", "many"])
def share(request: pytest.FixtureRequest) -> float:
    """How many of its examples a fuzzed test draws: a part of them here, all in the slow tests."""
    return float(request.param)


@pytest.fixture(name="make_model", scope="session")
def _make_model() -> Callable[..., PreTrainedModel]:
    """:func:`tiny.make_model`."""
    return make_model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    """One token per byte."""
    from flrc.models.sources.byte_tokenizer import byte_tokenizer

    return byte_tokenizer()


@pytest.fixture
def sequences() -> list[torch.Tensor]:
    """Calibration sequences of different lengths."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(0, 256, (n,), generator=generator) for n in (40, 23, 57)]


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data that most tests share; do not change it (see :func:`tiny.write_data`)."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(data_root: Path) -> Folder:
    """The data source over ``data_root``."""
    from flrc.data.folder import Folder

    return Folder(root=str(data_root))


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many prompts each trial of a search for a schedule generates for."""
    from flrc.search import trials

    made: list[int] = []
    generate = trials.generate_replies

    def counted(decoder: Any, prompts: Any, **settings: Any) -> Any:
        made.append(len(prompts))
        return generate(decoder, prompts, **settings)

    monkeypatch.setattr(trials, "generate_replies", counted)
    return made


@pytest.fixture
def run_config(tmp_path: Path, data_root: Path) -> Callable[..., RunConfig]:
    """Composes a run of the tiny model and data, everything in ``tmp_path``; takes overrides."""

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
        # A key of the default calibration may not exist in another one.
        kept = [b for b in base if b.split("=")[0] not in groups]
        config = compose(*kept, *overrides)
        perplexity: Any = config.evaluation.get("perplexity")
        if perplexity is not None:
            perplexity.length = min(perplexity.length, 256)
        return config

    return make
