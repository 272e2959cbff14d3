"""Everything that can be wrong is found before the first minute of work."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
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
    """Folders can be written, model, data and metric models are there; cheap, and without torch.

    Raises:
        UserError: The first thing that is missing.
    """
    for setting, folder in (("runs", config.runs_path()), ("cache", config.cache_path())):
        check_writable(f"paths.{setting}", folder)
    config.model.check_available()
    if config.calibrates:
        config.calibration.check_data(config.data)
    if config.searches:
        config.search.check_data(config.data)
    for evaluation in config.evaluation.values():
        evaluation.check_data(config.data)


def check_writable(setting: str, folder: Path) -> None:
    """Raise UserError unless files can be made in the folder, which need not be there yet."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(
            f"{setting} cannot be written to",
            given=f"{folder}, since {nearest} is {'closed' if nearest.is_dir() else 'a file'}",
            allowed="a folder that can be made and written to",
            fix=f"{setting}=FOLDER",
        )


def prepare(config: RunConfig) -> Prepared:
    """Checks that need torch but no weight: device, calibration, reachable rate, disk.

    Raises:
        UserError: The first thing that is wrong.
    """
    import torch

    from flrc.calibration.stored import input_bytes, output_bytes
    from flrc.decomposition.factorise import factor_bytes
    from flrc.models.loading import model_shell, parameter_count, resolve_device
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
            _check_fit(sequences, config)
        shell = model_shell(config.model)
        targets = config.grouping.targets(find_targets(shell))
        itemsize = getattr(torch, config.dtype).itemsize
        dense = parameter_count(shell) * itemsize
        config.runtime.check_memory(
            dense, dense - sum(target.dense for target in targets) * itemsize
        )
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


def _check_fit(sequences: list[torch.Tensor], config: RunConfig) -> None:
    """The model has these tokens, and as many positions."""
    text = config.model.config().get_text_config(decoder=True)
    positions = getattr(text, "max_position_embeddings", None)
    longest = max(map(len, sequences))
    if isinstance(positions, int) and longest > positions:
        raise UserError(
            "a calibration sequence is longer than the model's positions",
            given=f"{longest} tokens",
            allowed=f"up to {positions} ({config.model.label})",
            fix="cut the texts, or calibration.length",
        )
    low = min(int(one.min()) for one in sequences)
    high = max(int(one.max()) for one in sequences)
    if not 0 <= low <= high < text.vocab_size:
        raise UserError(
            "a calibration sequence holds tokens that the model does not have",
            given=f"token {low if low < 0 else high}",
            allowed=f"0 to {text.vocab_size - 1} ({config.model.label})",
            fix="the tokenizer of this very model",
        )
