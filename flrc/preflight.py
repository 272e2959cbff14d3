"""Everything that can be wrong is found before the first minute of work."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.cache import StageCache
from flrc.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from flrc.config import RunConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What the checks have already had to make.

    Attributes:
        tokenizer: The model's tokenizer.
        sequences: Calibration sequences; empty where nothing is calibrated.
        cache: The stage cache.
        device: Where the model goes.
    """

    tokenizer: PreTrainedTokenizerBase
    sequences: list[torch.Tensor]
    cache: StageCache
    device: torch.device


def check_inputs(config: RunConfig) -> None:
    """Model, data and metric models are there; cheap, and without torch.

    Raises:
        UserError: The first thing that is missing.
    """
    config.model.check_available()
    if config.calibrates:
        config.calibration.check_data(config.data)
    if config.searches:
        config.search.check_data(config.data)
    for evaluation in config.evaluation.values():
        evaluation.check_data(config.data)


def prepare(config: RunConfig) -> Prepared:
    """Checks that need torch but no weight: device, calibration, reachable rate, disk.

    Raises:
        UserError: The first thing that is wrong.
    """
    import torch

    from flrc.calibration.stored import input_bytes, output_bytes
    from flrc.decomposition.factorise import factor_bytes
    from flrc.models.loading import model_shell, resolve_device
    from flrc.models.targets import find_targets

    device = resolve_device(config.device)
    config.runtime.check_device(device)
    cache = StageCache(config.cache_path(), int(config.paths.cache_limit_gb * 1e9))
    config.model.convert(cache, config.dtype)
    tokenizer = config.model.tokenizer()
    if tokenizer.chat_template is None and any(e.GENERATES for e in config.evaluation.values()):
        log.warning("the tokenizer has no chat template: prompts are plain text")
    for evaluation in config.evaluation.values():
        evaluation.check_rows(config.data, tokenizer)
    sequences: list[torch.Tensor] = []
    if config.compresses:
        if config.calibrates:
            sequences = config.calibration.sequences(config.data, tokenizer, config.seed)
        targets = config.grouping.targets(find_targets(model_shell(config.model)))
        rates = {config.rate}
        if config.searches:
            config.search.check_rows(config.data, tokenizer)
        else:
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
    if device.type == "cpu" and config.dtype in ("float16",):
        raise UserError(
            "float16 has no CPU kernels worth using",
            given="dtype=float16 on the CPU",
            allowed="float32, bfloat16 or float64 on the CPU",
            fix="dtype=float32, or device=cuda",
        )
    return Prepared(tokenizer, sequences, cache, device)
