"""The framework as a library: the same runs as the command line, and models that are in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flrc.config import RunConfig, register
from flrc.core.canonical import canonical
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.library.given import Given, InMemory, check_words, evaluates
from flrc.sweeps.arguments import ConfigLocation
from flrc.sweeps.overrides import composing, parse

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.checkpoints.checkpoint import Loaded
    from flrc.results.records.record import Record

CONF = Path(__file__).resolve().parents[2] / "conf"


def run(*overrides: str) -> Record:
    """What ``python run.py`` does with these words: the same run, the same id, the same record.

    Args:
        overrides: As on the command line: ``"method=flrc", "rate=0.2"``.

    Raises:
        UserError: If a word, the model or the data are wrong; nothing has been computed then.
        RuntimeError: If the run failed; its record says where.
    """
    from flrc import pipeline
    from flrc.running import environment

    config = configuration(overrides)
    with environment.called_as(f"flrc.run({', '.join(map(repr, overrides))})"):
        return _finished(pipeline.run(config), config)


def compress(
    model: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    method: str = "flrc",
    rate: float = 0.2,
    calibration: Sequence[str | Sequence[int] | Tensor] | None = None,
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
        calibration: Texts, or token ids as integer tensors ``(tokens,)``, arrays or lists: one
            sequence each, as long as it is, up to the model's context length. None: the
            configuration's own (``calibration=mixed`` on ``data=sample`` unless overridden).
        seed: Of everything that is drawn.
        overrides: More words of the command line: ``"allocator=uniform"``, ``"data.root=DIR"``,
            ``"evaluation=[perplexity]"``, ``"paths.runs=DIR"``.

    Returns:
        The model with its tokenizer and plans, ready for :func:`flrc.generate` and
        :func:`flrc.save`: in evaluation mode, no parameter of it asks for gradients. And the
        record, which also stands in the folder of runs.

    Raises:
        UserError: If something is wrong with what was given; the model is unchanged then.
        RuntimeError: If the run failed; its record says where. A model in memory may have been
            changed in part.
    """
    from flrc import pipeline
    from flrc.running import environment

    check_words(overrides, by_name=isinstance(model, str), calibrated=calibration is not None)
    words = [f"method={method}", f"rate={canonical(rate)}", f"seed={seed}", *overrides]
    given = None if calibration is None else Given.of(calibration)
    if isinstance(model, str):
        if tokenizer is not None:
            raise UserError("a model by name brings its own tokenizer", given="tokenizer=...")
        config = configuration([f"model={model}", *words])
    else:
        held = InMemory.of(model, tokenizer)
        dtype = str(model.dtype).removeprefix("torch.")
        config = configuration([*words, f"dtype={dtype}", f"device={model.device}"])
        held.partial = config.model.partial
        config.model = held
        if "efficiency" in config.evaluation:
            raise UserError(
                "speed is measured beside the dense model, and a model in memory is changed",
                given="evaluation=[efficiency]",
                fix="give the model by name, or saved: model=local model.path=FOLDER",
            )
    if not evaluates(parse(overrides)):
        config.evaluation = {}
    if not config.compresses:
        raise UserError(
            "nothing would be compressed",
            given=f"method={method}, rate={rate:g}",
            allowed="a method other than dense, and a rate above 0",
        )
    if config.runtime.CONSUMES:
        raise UserError(
            "the runtime leaves no model that could be returned",
            given=f"runtime={config.runtime.name}",
            allowed="runtime=eager, for example",
            fix=f'flrc.run("runtime={config.runtime.name}", ...), which returns the record alone',
        )
    said = [repr(config.model.label), *map(repr, words)]
    if given is not None:
        config.calibration = given
        if not isinstance(model, str):
            read = given.sequences(config.data, config.model.tokenizer(), seed)
            given.tokens = TokenSequences("a calibration sequence", read, given.SHORTER).digest()
        said.append(f"{given.samples} calibration sequences")
    with environment.called_as(f"flrc.compress({', '.join(said)})"):
        record, compressed = pipeline.run_with_model(config)
    _finished(record, config)
    assert compressed is not None
    return compressed, record


def configuration(overrides: Sequence[str]) -> RunConfig:
    """The validated configuration of one run, from words of the command line.

    Raises:
        UserError: If a word is mistyped or a value out of range.
    """
    from hydra import compose
    from omegaconf import OmegaConf

    from flrc.sweeps.override_checks import check_overrides

    if not CONF.is_dir():
        raise UserError(
            "the configuration files are not there",
            given=str(CONF),
            fix="install from a checkout: pip install --editable .",
        )
    register()
    check_overrides(ConfigLocation(str(CONF)), list(overrides))
    with composing(overrides), _hydra(), _initialised():
        config = OmegaConf.to_object(compose("config", overrides=list(overrides)))
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


def _finished(record: Record, config: RunConfig) -> Record:
    """The record of a run that ended well, sent where the configuration says."""
    from flrc.running.identity import run_folder

    if record.run["status"] != "ok":
        raise RuntimeError(f"failed in stage {record.run['stage']}: {record.run['error']}")
    config.tracker.publish(record, run_folder(config).path)
    return record
