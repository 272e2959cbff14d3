"""Every evaluation of one model, each part saved as it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.evaluation.base import Subject
from flrc.results.records.measurement import Measurement

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.config import RunConfig
    from flrc.plans.run_plans import Plans
    from flrc.plans.target import Target
    from flrc.results.records.store import RunFolder
    from flrc.running.preflight import Prepared
    from flrc.running.stages import Stages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What an evaluation needs to know of the run, besides the model.

    Attributes:
        config: The whole configuration.
        prepared: Tokenizer and device.
        folder: Where parts are kept.
        stages: Where time is noted.
        dense_bytes: Of the whole dense model.
    """

    config: RunConfig
    prepared: Prepared
    folder: RunFolder
    stages: Stages
    dense_bytes: int


def measure(
    run: Run,
    model: PreTrainedModel,
    targets: list[Target],
    plans: Plans | None,
    dense_replies: dict[str, list[list[int]]],
) -> list[Measurement]:
    """All that the run asks for, on the model as it is executed; then what was known before.

    Args:
        run: What is asked for.
        model: Compressed, or dense.
        targets: What can be compressed.
        plans: The run's plans; None for the dense model.
        dense_replies: Token ids of the dense model's replies by evaluation part.
    """
    import torch

    from flrc.models.sources.loading import load_model
    from flrc.runtime.decoding import Decoder

    config, device = run.config, run.prepared.device

    @contextmanager
    def dense_again() -> Iterator[PreTrainedModel]:
        dense = load_model(config.model, config.dtype, device, config.placement)
        with config.runtime.running(dense, targets, run.dense_bytes):
            yield dense

    tokenizer = run.prepared.tokenizer
    decoder = Decoder(model, tokenizer, plans)
    rate = plans.constant.realised if plans is not None else 0.0
    subject = Subject(model, tokenizer, config.data, rate, decoder, dense_replies, dense_again)
    torch.manual_seed(config.seed)
    run.stages.current = "runtime"
    with config.runtime.running(model, targets, run.dense_bytes):
        measured = evaluate(config, run.folder, subject, run.prepared.tokens, run.stages)
    # What an earlier command measured on this very model stays in its record.
    earlier = run.folder.read_record()
    names = {measurement.name for measurement in measured}
    kept = [] if earlier is None else [m for m in earlier.measurements if m.name not in names]
    return [*measured, *kept]


def evaluate(
    config: RunConfig,
    folder: RunFolder,
    subject: Subject,
    tokens: Mapping[str, str],
    stages: Stages,
) -> list[Measurement]:
    """Every part of every evaluation, each saved as it ends.

    What is on disk is kept where it was measured on the same token ids (``tokens``, their digest by
    evaluation and part).
    """
    measurements: list[Measurement] = []
    for evaluation in config.evaluation.values():
        found: list[Measurement] = []
        for part in evaluation.parts():
            settings, name = evaluation.settings(part, config.data), f"{evaluation.name} {part}"
            with stages(name) as stage:
                outcome = folder.load_evaluation(evaluation.name, part, settings, tokens[name])
                stage.cached = outcome is not None and not config.force
                if outcome is None or config.force:
                    outcome = evaluation.evaluate(subject, part)
                    folder.save_evaluation(evaluation.name, part, settings, outcome, tokens[name])
            found += outcome.measurements
            for m in outcome.measurements:
                log.info("%s: %s = %.4g", config.method.name, m.name, m.value)
        measurements += [*found, *evaluation.summarise(found)]
    return measurements
