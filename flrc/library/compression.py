"""Runs from Python: those of the command line, and compression of a model in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from flrc import pipeline
from flrc.config import RunConfig, register
from flrc.core.canonical import canonical
from flrc.core.progress import display
from flrc.core.shipped import conf_folder
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.library.compressed_model import as_model
from flrc.library.given_sequences import GivenSequences
from flrc.library.given_texts import Given
from flrc.library.in_memory_model import InMemoryModel
from flrc.library.overrides import check_contradictions, evaluates
from flrc.running import environment
from flrc.running.identity import run_folder
from flrc.sweeps.arguments import ConfigLocation
from flrc.sweeps.model_names import is_name
from flrc.sweeps.override_checks import check_overrides
from flrc.sweeps.overrides import composing, parse, quoted

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.library.compressed_model import CompressedModel
    from flrc.results.records.record import Record

log = logging.getLogger(__name__)


def run(*overrides: str) -> Record:
    """Do what ``python run.py`` does with these overrides: the same run, id and record.

    Args:
        overrides: As on the command line: ``"method=flrc", "rate=0.2"``.

    Raises:
        UserError: If an override, the model or the data are wrong; nothing is computed then.
        RuntimeError: If the run failed; its record says where.
    """
    config = configuration(overrides)
    with (
        display.shown("starting"),
        environment.called_as(f"flrc.run({', '.join(map(repr, overrides))})"),
    ):
        return _finished(pipeline.run(config), config)


def compress(
    model: PreTrainedModel | str | Path,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    method: str = "flrc",
    rate: float = 0.2,
    calibration: Sequence[str | Sequence[int] | Tensor] | None = None,
    held_out: Sequence[str | Sequence[int] | Tensor] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> tuple[CompressedModel, Record]:
    """Compress a causal language model.

    Nothing is evaluated unless the overrides name evaluations. Statistics, factors and gradients
    that earlier calls computed for the same model come from the cache.

    Args:
        model: In memory: changed in place, keeps its dtype and device. By name: an id
            on the Hub (``owner/name``), the path of a saved model or a GGUF file, or one of
            ``conf/model``; loaded as on the command line.
        tokenizer: Of a model in memory.
        method: One of ``conf/method``.
        rate: Share of the target parameters that one forward step does not use; (0, 1).
        calibration: Texts, or token ids as integer tensors ``(tokens,)``, arrays or lists. Each is
            one sequence of its own length, up to the model's context length. None: the
            configuration's own (``calibration=mixed`` on ``data=sample`` unless overridden).
        held_out: With ``calibration`` and a healing (``heal=distilled`` ...): as many further
            sequences as its setting ``held_out`` says, 4 by default. Neither statistics nor tuning
            see them; the state with the least loss on them is kept.
        seed: Of everything that is drawn.
        overrides: As on the command line: ``"allocator=uniform"``, ``"data.root=DIR"``,
            ``"evaluation=[perplexity]"``, ``"paths.runs=DIR"``.

    Returns:
        The model as :func:`flrc.load` returns it, for a model in memory the caller's own object; it
        is in evaluation mode, and no parameter requires gradients. And the record, which is also
        written to the folder of runs.

    Raises:
        UserError: If an argument is wrong; the model is unchanged then.
        RuntimeError: If the run failed; its record says where. A model in memory may have been
            partly changed.
    """
    by_name = isinstance(model, str | Path)
    check_contradictions(overrides, by_name=by_name, calibrated=calibration is not None)
    all_overrides = [f"method={method}", f"rate={canonical(rate)}", f"seed={seed}", *overrides]
    given = _given(calibration, held_out)
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise UserError("a model by name brings its own tokenizer", given="tokenizer=...")
        config = configuration([model_override(model), *all_overrides])
    else:
        source = InMemoryModel(model, tokenizer)
        dtype = str(model.dtype).removeprefix("torch.")
        config = configuration([*all_overrides, f"dtype={dtype}", f"device={model.device}"])
        source.partial = config.model.partial
        config.model = source
    if not evaluates(parse(overrides)):
        config.evaluation = {}
    _check_compresses(config)
    _check_heals(config, given)
    label = str(model) if isinstance(model, str | Path) else config.model.label
    arguments = [repr(label), *map(repr, all_overrides)]
    if given is not None:
        config.calibration = given
        if not by_name:
            read = given.sequences(config.data, config.model.tokenizer(), seed)
            given.tokens = TokenSequences("a calibration sequence", read, given.SHORTER).digest()
        arguments.append(f"{given.samples} calibration sequences")
        if held_out is not None:
            arguments.append(f"{len(held_out)} held-out sequences")
    with display.shown("starting"), environment.called_as(f"flrc.compress({', '.join(arguments)})"):
        record, compressed = pipeline.run_with_model(config)
    _finished(record, config)
    assert compressed is not None
    return as_model(compressed, record), record


def model_override(model: str | Path) -> str:
    """The override for a model by its name; a path is written so that it is one there."""
    name = os.path.join(".", model) if isinstance(model, Path) else model
    return f"model={quoted(name) if is_name(name) else name}"


def _given(calibration: Given | None, held_out: Given | None) -> GivenSequences | None:
    if calibration is not None:
        return GivenSequences(calibration, held_out)
    if held_out is not None:
        raise UserError(
            "held-out sequences are given without calibration sequences",
            given="held_out=...",
            allowed="both, or neither: the configuration's calibration draws its own",
            fix="calibration=...",
        )
    return None


def _check_heals(config: RunConfig, given: GivenSequences | None) -> None:
    """Raise UserError if sequences are held out for a healing, and there is none."""
    if given is not None and given.unseen and not config.heal.HEALS:
        raise UserError(
            "nothing is healed, so nothing reads the held-out sequences",
            given=f"held_out=..., heal={config.heal.name}",
            fix='overrides=["heal=distilled"], or without held_out',
        )


def _check_compresses(config: RunConfig) -> None:
    """Raise UserError if the run would not end with a compressed model."""
    if isinstance(config.model, InMemoryModel) and "efficiency" in config.evaluation:
        raise UserError(
            "speed is compared with the dense model, and a model in memory is changed in place",
            given="evaluation=[efficiency]",
            fix="give the model by name, or saved: model=local model.path=FOLDER",
        )
    if not config.compresses:
        raise UserError(
            "nothing would be compressed",
            given=f"method={config.method.name}, rate={config.rate:g}",
            allowed="a method other than dense, and a rate above 0",
        )
    if config.runtime.CONSUMES:
        name = config.runtime.name
        raise UserError(
            "this runtime does not keep a model that could be returned",
            given=f"runtime={name}",
            allowed="runtime=eager, for example",
            fix=f'flrc.run("runtime={name}", ...), which returns only the record',
        )


def configuration(overrides: Sequence[str]) -> RunConfig:
    """The validated configuration of one run, from overrides as on the command line."""
    conf = str(conf_folder())
    register()
    check_overrides(ConfigLocation(conf), list(overrides))
    with (
        composing(overrides),
        _own_hydra(),
        initialize_config_dir(conf, version_base="1.3"),
    ):
        config = OmegaConf.to_object(compose("config", overrides=list(overrides)))
    assert isinstance(config, RunConfig)
    return config


@contextmanager
def _own_hydra() -> Iterator[None]:
    """Set Hydra's global state aside, and restore the caller's afterwards."""
    state = GlobalHydra.instance()
    before, state.hydra = state.hydra, None
    try:
        yield
    finally:
        state.hydra = before


def _finished(record: Record, config: RunConfig) -> Record:
    """The record of a successful run, after sending it to the tracker."""
    if record.run["status"] != "ok":
        raise RuntimeError(f"failed in stage {record.run['stage']}: {record.run['error']}")
    folder = run_folder(config).path
    if config.tracker.publish(record, folder):
        for line in config.tracker.places([folder]):
            log.info("%s", line)
    return record
