"""Every evaluation of one model, each part saved as it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from flrc.evaluation.base import Subject
from flrc.models.sources.loading import load_model
from flrc.results.records.other_settings import Measured, combined
from flrc.running.evaluation_files import PartFile
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.plans.run_plans import Plans
    from flrc.results.records.measurement import Measurement
    from flrc.running.context import Context

log = logging.getLogger(__name__)


def measure(
    context: Context, plans: Plans | None, replies: dict[str, list[list[int]]], dense_bytes: int
) -> Measured:
    """Every measurement that the run asks for, and those that earlier commands made of this model.

    Args:
        context: The run; its model is compressed, or dense, and is executed by its runtime.
        plans: The run's plans; None for the dense model.
        replies: Token ids of the dense model's replies by evaluation part.
        dense_bytes: Of the whole dense model.
    """
    config, targets = context.config, context.dense.targets

    @contextmanager
    def load_dense() -> Iterator[PreTrainedModel]:
        dense = load_model(config.model, config.dtype, context.device, config.placement)
        with config.runtime.running(dense, targets, dense_bytes):
            yield dense

    decoder = Decoder(context.model, context.tokenizer, plans)
    subject = Subject(decoder, config.data, replies, load_dense)
    torch.manual_seed(config.seed)
    context.stages.current = "runtime"
    with config.runtime.running(context.model, targets, dense_bytes):
        measured = evaluate(context, subject)
    # What an earlier command measured on this model stays in its record.
    return combined(measured, context.folder.read_record())


def evaluate(context: Context, subject: Subject) -> list[Measurement]:
    """Every part of every evaluation, each saved as it ends.

    What is on disk is kept if it was measured on the same token ids.
    """
    config, folder = context.config, context.folder
    measurements: list[Measurement] = []
    for evaluation in config.evaluation.values():
        measured: list[Measurement] = []
        for part in evaluation.parts():
            name = evaluation.title(part, config.data)
            file = PartFile(folder, evaluation, part, config.data)
            tokens = context.tokens[name]
            with context.stages(name) as stage:
                outcome = file.load(tokens)
                stage.cached = outcome is not None and not config.force
                if outcome is None or config.force:
                    outcome = evaluation.evaluate(subject, part)
                    file.save(outcome, tokens)
            measured += outcome.measurements
            for m in outcome.measurements:
                log.info("%s: %s = %.4g", config.method.name, m.name, m.value)
        measurements += [*measured, *evaluation.summarise(measured)]
    return measurements
