"""The framework as a library: the same runs as the command line, and models that are in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.calibration.base import Calibration
from flrc.config import RunConfig, register
from flrc.errors import UserError
from flrc.models.base import ModelSource

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.data.base import DataSource
    from flrc.models.checkpoint import Loaded
    from flrc.records.record import Record

CONF = Path(__file__).resolve().parents[1] / "conf"


def run(*overrides: str) -> Record:
    """What ``python run.py`` does with these words: the same run, the same id, the same record.

    Args:
        overrides: As on the command line: ``"method=flrc", "rate=0.2"``.

    Raises:
        UserError: If a word, the model or the data are wrong; nothing has been computed then.
        RuntimeError: If the run failed; its record says where.
    """
    from flrc import environment, pipeline

    config = configuration(overrides)
    with environment.called_as(f"flrc.run({', '.join(map(repr, overrides))})"):
        return _succeeded(pipeline.run(config))


def compress(
    model: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    method: str = "flrc",
    rate: float = 0.2,
    calibration: Sequence[str | Tensor] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> tuple[Loaded, Record]:
    """Compress a causal language model.

    Nothing is evaluated unless the overrides name evaluations; what earlier calls computed of the
    same model (statistics, factors, gradients) is taken from the cache.

    Args:
        model: In memory: changed in place, dtype and device stay. By name: one of ``conf/model``,
            loaded as the command line loads it.
        tokenizer: Of a model in memory.
        method: One of ``conf/method``.
        rate: Share of the target parameters that one forward step does not use; (0, 1).
        calibration: Texts, or token ids ``(tokens,)``: one sequence each, as long as it is. None:
            the configuration's own (``calibration=mixed`` on ``data=sample`` unless overridden).
        seed: Of everything that is drawn.
        overrides: More words of the command line: ``"allocator=uniform"``, ``"data.root=DIR"``,
            ``"evaluation=[perplexity]"``, ``"paths.runs=DIR"``.

    Returns:
        The model with its tokenizer and plans, ready for :func:`flrc.generate` and
        :func:`flrc.save`; and the record, which also stands in the folder of runs.

    Raises:
        UserError: If something is wrong with what was given; the model is unchanged then.
        RuntimeError: If the run failed; its record says where. A model in memory may have been
            changed in part.
    """
    from flrc import environment, pipeline

    words = [f"method={method}", f"rate={rate}", f"seed={seed}", *overrides]
    if isinstance(model, str):
        if tokenizer is not None:
            raise UserError("a model by name brings its own tokenizer", given="tokenizer=...")
        config = configuration([f"model={model}", *words])
    else:
        if tokenizer is None:
            raise UserError("a model in memory needs its tokenizer", fix="tokenizer=...")
        dtype = str(model.dtype).removeprefix("torch.")
        config = configuration([*words, f"dtype={dtype}", f"device={model.device}"])
        config.model = InMemory(label=_label(model)).holding(model, tokenizer)
        if "efficiency" in config.evaluation:
            raise UserError(
                "speed is measured beside the dense model, and a model in memory is changed",
                given="evaluation=[efficiency]",
                fix="give the model by name, or saved: model=local model.path=FOLDER",
            )
    if not any(word.startswith("evaluation=") for word in overrides):
        config.evaluation = {}
    if not config.compresses:
        raise UserError(
            "nothing would be compressed",
            given=f"method={method}, rate={rate:g}",
            allowed="a method other than dense, and a rate above 0",
        )
    if calibration is not None:
        config.calibration = Given(samples=len(calibration)).holding(calibration)
    given = [repr(config.model.label), *map(repr, words)]
    given += [] if calibration is None else [f"{len(calibration)} calibration sequences"]
    with environment.called_as(f"flrc.compress({', '.join(given)})"):
        record, compressed = pipeline.run_with_model(config)
    _succeeded(record)
    assert compressed is not None
    return compressed, record


def configuration(overrides: Sequence[str]) -> RunConfig:
    """The validated configuration of one run, from words of the command line.

    Raises:
        UserError: If a word is mistyped or a value out of range.
    """
    from hydra import compose
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from flrc.overrides import check_overrides

    if not CONF.is_dir():
        raise UserError(
            "the configuration files are not there",
            given=str(CONF),
            fix="install from a checkout: pip install --editable .",
        )
    register()
    with _hydra():
        check_overrides(str(CONF), list(overrides))
    try:
        with _hydra(), _initialised():
            config = OmegaConf.to_object(compose("config", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(
            "these words make no configuration", given=" ".join(overrides), allowed=str(error)
        ) from error
    assert isinstance(config, RunConfig)
    return config


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra's global state is the caller's again afterwards."""
    from hydra.core.global_hydra import GlobalHydra

    state = GlobalHydra.instance()
    before, state.hydra = state.hydra, None
    try:
        yield
    finally:
        state.hydra = before


def _initialised() -> Any:
    from hydra import initialize_config_dir

    return initialize_config_dir(str(CONF), version_base="1.3")


def _succeeded(record: Record) -> Record:
    if record.run["status"] != "ok":
        raise RuntimeError(f"failed in stage {record.run['stage']}: {record.run['error']}")
    return record


def _label(model: PreTrainedModel) -> str:
    """The last part of the name that it was loaded by, or its type."""
    return Path(str(model.config.name_or_path)).name or str(model.config.model_type)


@dataclass
class InMemory(ModelSource):
    """A model that the caller holds; it is handed on itself, not as a copy."""

    name: str = "in_memory"

    def holding(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> InMemory:
        """This source, with the model; its fingerprint is taken now, before anything changes."""
        self._model, self._tokenizer = model, tokenizer
        self._config = type(model.config).from_dict(model.config.to_dict())
        self._fingerprint = _fingerprint(model, tokenizer)
        return self

    def fingerprint(self) -> str:
        """Digest of weights, config and vocabulary."""
        return self._fingerprint

    def check_available(self) -> None:
        """It is here."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The caller's."""
        return self._tokenizer

    def config(self) -> PretrainedConfig:
        """The model's, as it was."""
        return self._config

    def load(self, dtype: str) -> PreTrainedModel:
        """The caller's model itself."""
        return self._model


def _fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    import torch

    from flrc.records import jsonfile

    digest = hashlib.sha256(jsonfile.canonical(tokenizer.get_vocab()).encode())
    digest.update(str(tokenizer.chat_template).encode())
    digest.update(model.config.to_json_string(use_diff=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass
class Given(Calibration):
    """Sequences that the caller gives; a record holds their digest, never the text.

    Attributes:
        digest: SHA-256 of what was given.
    """

    name: str = "given"
    digest: str = ""

    def holding(self, given: Sequence[str | Tensor]) -> Given:
        """This calibration, with the sequences."""
        self._given = list(given)
        digest = hashlib.sha256()
        for one in self._given:
            content = one.encode() if isinstance(one, str) else one.cpu().numpy().tobytes()
            digest.update(f"{len(content)}:".encode() + content)
        self.digest = digest.hexdigest()
        return self

    def splits(self) -> list[tuple[str, str]]:
        """None is read."""
        return []

    def sequences(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> list[Tensor]:
        """What was given; texts without anything that a chat template would add."""
        import torch

        found = [
            torch.tensor(tokenizer(one)["input_ids"]) if isinstance(one, str) else one.long().cpu()
            for one in self._given
        ]
        short = [k for k, one in enumerate(found) if one.ndim != 1 or len(one) < 2]
        if short:
            raise UserError(
                "a calibration sequence is too short or has the wrong shape",
                given=f"sequence {short[0]}: {tuple(found[short[0]].shape)}",
                allowed="texts, or token ids (tokens,), of two tokens or more",
            )
        return found
