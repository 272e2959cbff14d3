"""A run is a function: configuration in, record out.

Reads like the paper's section 3, top to bottom.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flrc import environment
from flrc.config import RunConfig
from flrc.evaluation.base import Measurement, Subject
from flrc.preflight import Prepared, check_inputs, prepare
from flrc.records import jsonfile
from flrc.records.identity import calibration_inputs, run_folder, run_id
from flrc.records.record import Record
from flrc.stages import Stages

if TYPE_CHECKING:
    from flrc.allocator.planning import Plans
    from flrc.cache import Entry
    from flrc.decomposition.factorise import StoredFactors
    from flrc.models.targets import Target
    from flrc.records.store import RunFolder

log = logging.getLogger(__name__)


def run(config: RunConfig) -> Record:
    """Compress, evaluate, record.

    What is done already is not done again: a run with every requested evaluation on disk returns
    its record, an interrupted one continues.

    Args:
        config: The whole configuration.

    Returns:
        The record, as it stands in the run's folder. A failure is a record too (``status`` is
        ``failed``).

    Raises:
        UserError: If the configuration, the model or the data are wrong; nothing has been computed
            then.
    """
    check_inputs(config)
    folder = run_folder(config)
    if (done := finished(config, folder)) is not None:
        return done
    stages = Stages()
    environment.set_threads(config.threads)
    with stages("preflight"):
        prepared = prepare(config)
    with folder.lock(), environment.log_file(folder.path / "run.log"):
        # Another worker may have finished it while this one waited.
        if (done := finished(config, folder)) is not None:
            return done
        record = Record(
            run=environment.run_block(config, run_id(config)), meta=environment.meta_block(config)
        )
        try:
            compress_and_evaluate(config, prepared, folder, record, stages)
            record.run["status"] = "ok"
        except Exception as error:
            record.run |= {
                "status": "failed",
                "stage": stages.current,
                "error": f"{type(error).__name__}: {error}",
            }
            log.exception("failed in stage %s: %s", stages.current, folder.path)
        record.meta["stages"] = stages.to_json()
        folder.write_record(record)
        return record


def finished(config: RunConfig, folder: RunFolder) -> Record | None:
    """The record, if every requested evaluation is on disk with exactly the present settings."""
    record = None if config.force else folder.read_record()
    if record is None or record.run["status"] != "ok":
        return None
    present = [jsonfile.canonical(vars(m)) for m in record.measurements]
    for evaluation in config.evaluation.values():
        for part in evaluation.parts():
            settings = evaluation.settings(part, config.data)
            outcome = folder.load_evaluation(evaluation.name, part, settings)
            if outcome is None:
                return None
            if any(jsonfile.canonical(vars(m)) not in present for m in outcome.measurements):
                return None
    log.info("done already, nothing computed: %s", folder.path)
    return record


def compress_and_evaluate(
    config: RunConfig, prepared: Prepared, folder: RunFolder, record: Record, stages: Stages
) -> None:
    """Everything that needs the model; fills the record as it goes."""
    import torch

    from flrc.models.loading import load_model
    from flrc.models.surgery import check_counts, compress
    from flrc.models.targets import find_targets
    from flrc.records.accounting import account, account_dense
    from flrc.runtime.decoding import Decoder

    with stages("load"):
        model = load_model(config.model, config.dtype, prepared.device)
        targets = find_targets(model)
    dense_replies = replies_of_dense_model(config, prepared, model, stages)

    plans: Plans | None = None
    if config.compresses:
        factors = decompose(config, prepared, model, targets, stages)
        with stages("sensitivity") as stage:
            scores = score(config, prepared, model, targets, stage)
        with stages("allocation"):
            plans = allocate(config, targets, scores)
        folder.write_plan(plans.to_json())
        with stages("surgery"):
            record.results |= account(config, model, targets, plans, factors, scores)
            compress(model, targets, plans.all, config.form, factors.factors)
            check_counts(model, targets, plans, config.form)
        with stages("quantization"):
            config.quantization.quantize(model)
        prepared.cache.trim()
    else:
        record.results |= account_dense(model, targets)
    config.runtime.prepare(model)

    decoder = Decoder(model, prepared.tokenizer, plans)
    rate = plans.constant.realised if plans is not None else 0.0
    subject = Subject(model, prepared.tokenizer, config.data, rate, decoder, dense_replies)
    torch.manual_seed(config.seed)
    measured = evaluate(config, folder, subject, stages)
    # What an earlier command measured on this very model stays in its record.
    earlier = folder.read_record()
    names = {measurement.name for measurement in measured}
    kept = [] if earlier is None else [m for m in earlier.measurements if m.name not in names]
    record.results["measurements"] = [vars(m) for m in [*measured, *kept]]


def replies_of_dense_model(
    config: RunConfig, prepared: Prepared, model: Any, stages: Stages
) -> dict[str, list[list[int]]]:
    """The dense model's replies for every generating evaluation, cached or generated now."""
    from flrc.runtime.decoding import Decoder

    decoder = Decoder(model, prepared.tokenizer, None)
    replies: dict[str, list[list[int]]] = {}
    for evaluation in (e for e in config.evaluation.values() if e.GENERATES):
        for part in evaluation.parts():
            settings = evaluation.reply_settings(part, config.data)
            inputs = {"model": environment.model_inputs(config), "settings": settings}
            entry = prepared.cache.entry("dense_replies", inputs)
            with stages("dense replies") as stage, entry.lock():
                stage.cached = entry.done
                if not stage.cached:
                    found = evaluation.replies(config.data, prepared.tokenizer, decoder, part)
                    entry.write_json("replies.json", found)
                    entry.finish()
                replies[part] = entry.read_json("replies.json")
    return replies


def decompose(
    config: RunConfig, prepared: Prepared, model: Any, targets: list[Target], stages: Stages
) -> StoredFactors:
    """Full-rank factors of every target, shared by all rates and allocators."""
    from flrc.decomposition.factorise import (
        StoredFactors,
        calibrated_blocks,
        factorise_block,
        statistics_bytes,
    )

    calibrated = config.decomposition.CALIBRATED
    inputs: dict[str, Any] = {"model": environment.model_inputs(config)}
    if calibrated:
        inputs["calibration"] = calibration_inputs(config)
    keep = None
    if calibrated and statistics_bytes(targets) <= config.paths.keep_statistics_gb * 1e9:
        keep = prepared.cache.entry("statistics", inputs)
    inputs = {**inputs, "decomposition": config.decomposition.describe()}
    entry = prepared.cache.entry("factors", inputs)
    with entry.lock() if keep is None else _both(entry, keep):
        with stages("decomposition") as stage:
            stage.cached = entry.done
        if not stage.cached:
            blocks = (
                stages.each(
                    "statistics", calibrated_blocks(model, targets, prepared.sequences, keep)
                )
                if calibrated
                else ((block, {}) for block in sorted({t.block for t in targets}))
            )
            rescues: dict[str, str] = {}
            for block, statistics in blocks:
                members = [target for target in targets if target.block == block]
                with stages("decomposition"):
                    rescues |= factorise_block(
                        model, members, config.decomposition, statistics, entry
                    )
            for name, what in rescues.items():
                log.warning("rescue: %s: %s", name, what)
            entry.write_json("rescues.json", rescues)
            entry.finish()
    return StoredFactors(entry, {target.name: target for target in targets})


@contextmanager
def _both(first: Entry, second: Entry) -> Iterator[None]:
    """Hold two cache entries, always in this order, so that workers cannot block each other."""
    with first.lock(), second.lock():
        yield


def score(
    config: RunConfig, prepared: Prepared, model: Any, targets: list[Target], stage: Any
) -> dict[str, float]:
    """Score of every target (eq. 1, 4 or 5); empty where the allocator reads none."""
    from flrc.sensitivity.base import ScoreContext
    from flrc.sensitivity.scoring import gradient_statistics

    if not config.allocator.SCORED:
        return {}

    def gradients(reduction: str) -> Any:
        inputs = {
            "model": environment.model_inputs(config),
            "calibration": calibration_inputs(config),
            "reduction": reduction,
            "version": type(config.sensitivity).VERSION,
        }
        entry = prepared.cache.entry("gradients", inputs)
        stage.cached = entry.done
        return gradient_statistics(model, targets, prepared.sequences, reduction, entry)

    context = ScoreContext(targets, lambda name: model.get_submodule(name).weight.data, gradients)
    return config.sensitivity.score(context)


def allocate(config: RunConfig, targets: list[Target], scores: dict[str, float]) -> Plans:
    """Ranks for the requested rate and for each phase of the schedule (eq. 2 and 3)."""
    from flrc.allocator.planning import make_plans

    return make_plans(config.allocator, config.schedule, targets, config.form, scores, config.rate)


def evaluate(
    config: RunConfig, folder: RunFolder, subject: Subject, stages: Stages
) -> list[Measurement]:
    """Every part of every evaluation, each saved as it ends; what is on disk is kept."""
    measurements: list[Measurement] = []
    for evaluation in config.evaluation.values():
        found: list[Measurement] = []
        for part in evaluation.parts():
            settings = evaluation.settings(part, config.data)
            with stages(f"{evaluation.name} {part}") as stage:
                outcome = folder.load_evaluation(evaluation.name, part, settings)
                stage.cached = outcome is not None and not config.force
                if outcome is None or config.force:
                    outcome = evaluation.evaluate(subject, part)
                    folder.save_evaluation(evaluation.name, part, settings, outcome)
            found += outcome.measurements
            for m in outcome.measurements:
                log.info("%s: %s = %.4g", config.method.name, m.name, m.value)
        measurements += [*found, *evaluation.summarise(found)]
    return measurements
