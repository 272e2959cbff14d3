"""Everything that can be wrong is found before the first minute of work."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.core.cache import StageCache
from flrc.core.folders import check_folders
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.config import RunConfig
    from flrc.plans.target import Target

log = logging.getLogger(__name__)

CALIBRATION, SEARCH = "calibration", "search"
"""What sequences are read for, beside the evaluations."""


@dataclass(frozen=True)
class Prepared:
    """What the checks have already had to make.

    Attributes:
        tokenizer: The model's tokenizer.
        sequences: Calibration sequences; empty where nothing is calibrated.
        tokens: Digest of the token ids that are read, by what they are read for:
            :data:`CALIBRATION`, :data:`SEARCH`, an evaluation and its part.
        template_date: What the chat template prints as the date; None where it prints none.
        cache: The stage cache.
        device: Where the model goes.
        targets: What is compressed; None if nothing is, or if it takes the weights to find it.
    """

    tokenizer: PreTrainedTokenizerBase
    sequences: list[torch.Tensor]
    tokens: dict[str, str]
    template_date: str | None
    cache: StageCache
    device: torch.device
    targets: list[Target] | None = None

    def read(self) -> dict[str, Any]:
        """For the record: which tokens were read, and the date that a template printed in them."""
        dated = {} if self.template_date is None else {"template_date": self.template_date}
        return {"tokens": self.tokens, **dated}


def check_inputs(config: RunConfig) -> None:
    """Folders can be written, model, data and metric models are there; cheap, and without torch.

    Raises:
        UserError: The first thing that is missing.
    """
    check_folders(config.runs_path(), config.cache_path())
    config.model.check_available()
    if config.calibrates:
        config.calibration.check_data(config.data)
    if config.searches:
        config.search.check_data(config.data)
    for evaluation in config.evaluation.values():
        evaluation.check_data(config.data)


def prepare(config: RunConfig) -> Prepared:
    """Checks that need torch but no weight: device, tokens, reachable rate, disk.

    Raises:
        UserError: The first thing that is wrong.
    """
    from flrc.core.devices import resolve_device
    from flrc.data.chat_template import DATE, reads_date
    from flrc.models.anatomy.input_limits import Limits

    device = resolve_device(config.device)
    config.runtime.check_device(device)
    cache = StageCache(config.cache_path(), int(config.paths.cache_limit_gb * 1e9))
    config.model.convert(cache, config.dtype)
    model = config.model.config()  # first: a tokenizer is made by the model's type
    tokenizer = config.model.tokenizer()
    reads = read_sequences(config, tokenizer)
    limits = Limits.of(model)
    for read in reads.values():
        read.check(limits, config.model.label)
    targets = _targets_of_shell(config, cache) if config.compresses else None
    if device.type == "cpu" and config.dtype in ("float16",):
        raise UserError(
            "float16 has no CPU kernels worth using",
            given="dtype=float16 on the CPU",
            allowed="float32, bfloat16 or float64 on the CPU",
            fix="dtype=float32, or device=cuda",
        )
    return Prepared(
        tokenizer,
        list(reads[CALIBRATION].ids) if CALIBRATION in reads else [],  # type: ignore[arg-type]
        {name: read.digest() for name, read in reads.items()},
        DATE.date().isoformat() if reads_date(tokenizer) else None,
        cache,
        device,
        targets,
    )


def _targets_of_shell(config: RunConfig, cache: StageCache) -> list[Target] | None:
    """The targets, checked before a weight is read; None if only the model itself can tell them."""
    from flrc.models.anatomy.forward_trace import UndecidedError
    from flrc.models.anatomy.target_coverage import check_coverage
    from flrc.models.anatomy.targets import find_targets, linear_layers
    from flrc.models.sources.loading import model_shell

    shell = model_shell(config.model)
    try:
        targets = config.grouping.targets(find_targets(shell))
    except UndecidedError as error:
        log.info("the layers to compress are looked for once the weights are there: %s", error)
        with suppress(UndecidedError):
            check_coverage(shell, linear_layers(shell), config.rate, config.model.partial)
        return None
    check_coverage(shell, targets, config.rate, config.model.partial)
    check_targets(config, cache, shell, targets)
    return targets


def check_targets(
    config: RunConfig, cache: StageCache, model: PreTrainedModel, targets: list[Target]
) -> None:
    """What is compressed fits the memory and the disk, and its rates can be reached.

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

    itemsize = getattr(torch, config.dtype).itemsize
    dense = parameter_count(model) * itemsize
    config.runtime.check_memory(dense, dense - sum(target.dense for target in targets) * itemsize)
    rates = {config.rate}
    if not config.searches:
        rates |= {phase.rate for phase in config.schedule.phases(config.rate)}
    for rate in sorted(rates):
        config.allocator.check_reachable(targets, config.form, rate)
    needed = factor_bytes(targets, getattr(torch, config.dtype))
    sides = [
        input_bytes(targets) if config.decomposition.CALIBRATED else 0,
        output_bytes(targets) if config.decomposition.TWO_SIDED else 0,
    ]
    needed += sum(side for side in sides if side <= config.paths.keep_statistics_gb * 1e9)
    cache.require_space(needed, f"factors and statistics of {config.model.label}")


def read_sequences(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase
) -> dict[str, TokenSequences]:
    """Every sequence that the run will feed to the model, by what it is read for.

    Raises:
        UserError: If a row that is used is bad, or there are too few.
    """
    from flrc.data.chat_template import has_template

    generates = any(evaluation.GENERATES for evaluation in config.evaluation.values())
    if generates and not has_template(tokenizer):
        log.warning("the tokenizer has no chat template: prompts are plain text")
    found: dict[str, TokenSequences] = {}
    model = config.model.config()
    for evaluation in config.evaluation.values():
        for part in evaluation.parts():
            read = evaluation.token_sequences(part, config.data, tokenizer, model)
            found[f"{evaluation.name} {part}"] = read
    if config.calibrates:
        drawn = config.calibration.sequences(config.data, tokenizer, config.seed)
        shorter = config.calibration.SHORTER
        found[CALIBRATION] = TokenSequences("a calibration sequence", drawn, shorter)
    if config.searches:
        found[SEARCH] = config.search.token_sequences(config.data, tokenizer, config.seed)
    return found
