"""Checks before any work: everything that can be wrong is found here."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import StageCache
from flrc.core.extras import check_installed
from flrc.core.folders import check_folders
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.models.checkpoints.manifest import FILE
from flrc.results.records.store import PLAN
from flrc.running.context import Context
from flrc.running.identity import CALIBRATION, HELD_OUT, SEARCH, run_folder
from flrc.running.profiling import Stages
from flrc.running.steps import steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.config import RunConfig
    from flrc.plans.target import Target
    from flrc.results.records.store import RunFolder

log = logging.getLogger(__name__)

FEW = 16
"""Tokens on which a model's blocks, called one by one, are compared with the whole model."""


def check_inputs(config: RunConfig) -> None:
    """Packages, model, data and metric models are there, folders can be written; without torch.

    Raises:
        UserError: The first thing that is missing.
    """
    for setting, component in config.parts():
        check_installed(setting, component.needs())
    check_folders(config.runs_path(), config.cache_path())
    config.model.check_available()
    if config.calibrates:
        config.calibration.check_data(config.data)
    if config.searches:
        config.search.check_data(config.data)
    for evaluation in config.evaluation.values():
        evaluation.check_data(config.data)


def prepare(config: RunConfig, returned: bool = False) -> Context:
    """Checks that need torch but no weights: device, tokens, reachable rate, disk.

    Args:
        config: The whole configuration.
        returned: Whether the compressed model is returned, and may then generate.

    Returns:
        The run, whose model has yet to be loaded.

    Raises:
        UserError: The first thing that is wrong.
    """
    from flrc.core.devices import resolve_device
    from flrc.data.chat_template import DATE, reads_date
    from flrc.models.anatomy.input_limits import Limits
    from flrc.models.checkpoints.save_folder import check_save_folder

    searches = config.searches and (returned or searched_now(config, run_folder(config)))
    stages = Stages(steps=steps(config, searches))
    with stages("preflight"):
        if config.model.save and config.compresses:
            check_save_folder(run_folder(config).model)
        device = resolve_device(config.device)
        config.runtime.check_device(device)
        cache = StageCache(config.cache_path(), int(config.paths.cache_limit_gb * 1e9))
        config.model.convert(cache, config.dtype)
        limits = Limits.of(config.model.config())  # first: a tokenizer is made by the model's type
        tokenizer = config.model.tokenizer()
        reads = read_sequences(config, tokenizer, searches)
        for read in reads.values():
            read.check(limits, config.model.label)
        targets = _targets_of_shell(config, cache) if config.compresses else None
        if device.type == "cpu" and config.dtype == "float16":
            raise UserError(
                "float16 has no fast CPU kernels",
                given="dtype=float16 on the CPU",
                allowed="float32, bfloat16 or float64 on the CPU",
                fix="dtype=float32, or device=cuda",
            )
    return Context(
        config,
        stages,
        device,
        cache,
        tokenizer,
        list(reads[CALIBRATION].ids) if CALIBRATION in reads else [],  # type: ignore[arg-type]
        {name: read.digest() for name, read in reads.items()},
        list(reads[HELD_OUT].ids) if HELD_OUT in reads else [],  # type: ignore[arg-type]
        searches,
        DATE.date().isoformat() if reads_date(tokenizer) else None,
        targets,
    )


def searched_now(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the search for a schedule is not deferred, or was made by an earlier command.

    An earlier search is repeated from its cached replies, so that the record keeps what it found.
    The record, the plan and the checkpoint each tell of one: any of them may be lost.
    """
    if config.reads_phases or (folder.model / FILE).is_file():
        return True
    earlier, plan = folder.read_record(), folder.read_json(PLAN)
    known = [{} if earlier is None else earlier.results, plan if isinstance(plan, dict) else {}]
    return any(values.get("phases") for values in known)


def check_model(context: Context, model: PreTrainedModel) -> DenseModel:
    """Checks that need the weights: the targets, and that the blocks can be run one by one.

    Raises:
        UserError: The first thing that is wrong.
    """
    from flrc.models.anatomy.block_by_block import check_walk
    from flrc.models.anatomy.target_coverage import check_coverage
    from flrc.models.anatomy.targets import find_targets

    config = context.config
    targets = config.grouping.targets(find_targets(model))
    if config.compresses and targets != context.shell_targets:
        check_coverage(model, targets, config.rate, config.model.partial)
        check_targets(config, context.cache, model, targets)
    if config.calibrates:
        check_walk(model, context.sequences[0][:FEW], 2 if config.allocator.PROBES else 1)
        config.heal.check_model(model, context.sequences)
    return DenseModel(model, targets, context.sequences, config.seed)


def _targets_of_shell(config: RunConfig, cache: StageCache) -> list[Target] | None:
    """The targets, checked before a weight is read; None if finding them takes the weights."""
    from flrc.models.anatomy.forward_trace import UndecidedError
    from flrc.models.anatomy.target_coverage import check_coverage
    from flrc.models.anatomy.targets import find_targets, linear_layers
    from flrc.models.sources.loading import model_shell

    shell = model_shell(config.model)
    try:
        targets = config.grouping.targets(find_targets(shell))
    except UndecidedError as error:
        log.info("the layers to compress will be found once the weights are loaded: %s", error)
        with suppress(UndecidedError):
            check_coverage(shell, linear_layers(shell), config.rate, config.model.partial)
        return None
    check_coverage(shell, targets, config.rate, config.model.partial)
    check_targets(config, cache, shell, targets)
    return targets


def check_targets(
    config: RunConfig, cache: StageCache, model: PreTrainedModel, targets: list[Target]
) -> None:
    """What is compressed fits into memory and on the disk, and its rates can be reached.

    Args:
        config: The whole configuration.
        cache: The stage cache.
        model: Dense, perhaps without weights.
        targets: What is compressed of it.

    Raises:
        UserError: The first thing that is wrong.
    """
    import torch

    from flrc.calibration.statistics_store import input_bytes, output_bytes
    from flrc.models.sources.loading import parameter_count
    from flrc.running.factors import factor_bytes

    dtype = getattr(torch, config.dtype)
    dense = parameter_count(model) * dtype.itemsize
    of_targets = sum(target.dense for target in targets) * dtype.itemsize
    config.runtime.check_memory(dense, dense - of_targets)
    rates = {config.rate}
    if not config.searches:
        rates |= {phase.rate for phase in config.schedule.phases(config.rate)}
    for rate in sorted(rates):
        config.allocator.check_reachable(targets, config.form, rate)
    sides = [
        input_bytes(targets) if config.decomposition.CALIBRATED else 0,
        output_bytes(targets) if config.decomposition.TWO_SIDED else 0,
    ]
    kept = sum(side for side in sides if side <= config.paths.keep_statistics_gb * 1e9)
    needed = factor_bytes(targets, dtype) + kept
    if config.heal.HEALS:  # latest state with two moments, its successor, the best one: float32
        needed += int(7 * 4 * (1 - config.rate) * sum(target.dense for target in targets))
    cache.require_space(needed, f"factors and statistics of {config.model.label}")


def read_sequences(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, searches: bool
) -> dict[str, TokenSequences]:
    """Every sequence that the run will feed to the model, by what it is read for.

    Args:
        config: The whole configuration.
        tokenizer: The model's.
        searches: Whether the schedule is searched now.

    Raises:
        UserError: If a row that is used is bad, or there are too few.
    """
    from flrc.data.chat_template import has_template

    generates = any(evaluation.GENERATES for evaluation in config.evaluation.values())
    if generates and not has_template(tokenizer):
        log.warning("the tokenizer has no chat template: prompts are plain text")
    sequences: dict[str, TokenSequences] = {}
    model = config.model.config()
    for evaluation in config.evaluation.values():
        for part in evaluation.parts():
            read = evaluation.token_sequences(part, config.data, tokenizer, model)
            sequences[evaluation.title(part, config.data)] = read
    if config.calibrates:
        drawn = config.calibration.sequences(config.data, tokenizer, config.seed)
        shorter = config.calibration.SHORTER
        sequences[CALIBRATION] = TokenSequences("a calibration sequence", drawn, shorter)
        if config.heal.HEALS:
            count = config.heal.unseen
            held_out = config.calibration.held_out(config.data, tokenizer, config.seed, count)
            sequences[HELD_OUT] = TokenSequences("a held-out sequence", held_out, shorter)
    if searches:
        sequences[SEARCH] = config.search.token_sequences(config.data, tokenizer, config.seed)
    return sequences
