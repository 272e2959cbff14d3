"""A run is a function: configuration in, record out.

Reads like the paper's section 3, top to bottom. It imports torch, so code that has
to answer without torch imports this module late.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flrc.errors import UserError, explained
from flrc.form import surgery
from flrc.models.checkpoints.checkpoint import Loaded, save
from flrc.models.checkpoints.manifest import FILE
from flrc.models.checkpoints.weights import WEIGHTS, weights_digest
from flrc.models.layers.sizes import stored_bytes
from flrc.models.sources.loading import load_model
from flrc.results.pages.model_card import describe
from flrc.results.records.checkpoint_places import PLACES, noted
from flrc.results.records.made_by import maker, note_maker
from flrc.results.records.other_settings import combined
from flrc.results.records.record import Record
from flrc.running import environment
from flrc.running.accounting import account, account_dense, fallbacks, note_coefficients
from flrc.running.dense_replies import dense_replies
from flrc.running.evaluations import measure
from flrc.running.factors import decompose
from flrc.running.finished import finished
from flrc.running.healing import replace_layers
from flrc.running.identity import run_folder
from flrc.running.preflight import check_inputs, check_model, prepare, searched_now
from flrc.running.ranks import allocate, schedule
from flrc.running.refinement import refine
from flrc.running.scores import score

if TYPE_CHECKING:
    from flrc.config import RunConfig
    from flrc.plans.run_plans import Plans
    from flrc.running.context import Context

log = logging.getLogger(__name__)


def run(config: RunConfig) -> Record:
    """Compress, evaluate, record.

    Work that is done is not repeated: a run with every requested evaluation on disk returns its
    record, an interrupted one continues.

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
    if (done := finished(config, run_folder(config))) is not None:
        return done
    return _run(config, again=False)[0]


def run_with_model(config: RunConfig) -> tuple[Record, Loaded | None]:
    """:func:`run`, and the model that it made; evaluations that are done are not repeated.

    Returns:
        The record, and the compressed model; None if nothing is compressed or the run failed.
    """
    check_inputs(config)
    return _run(config, again=True)


def _run(config: RunConfig, again: bool) -> tuple[Record, Loaded | None]:
    """The run, in its locked folder; ``again``: even if its record is done, for its model."""
    environment.set_threads(config.threads)
    context = prepare(config, returned=again)
    folder, stages = context.folder, context.stages
    with folder.lock(), environment.log_file(folder.path / "run.log"):
        # Another worker may have finished it while this one waited.
        if not again and (done := finished(config, folder)) is not None:
            return done, None
        if config.searches and not context.searches and searched_now(config, folder):
            context = prepare(config)  # it has searched the schedule
            stages = context.stages
        meta = environment.meta_block(config) | context.inputs_read()
        earlier = folder.read_record()
        meta |= environment.command_of_measurements(config, earlier)
        meta |= {PLACES: places} if (places := noted(earlier)) else {}
        if earlier is not None and WEIGHTS in earlier.meta:
            meta[WEIGHTS] = earlier.meta[WEIGHTS]  # replaced if the model is saved again
            note_maker(meta, maker(earlier.meta))
        record = Record(run=environment.run_block(config), meta=meta)
        compressed: Loaded | None = None
        try:
            compressed = compress_and_evaluate(context, record, again)
            record.run["status"] = "ok"
        except Exception as error:
            if isinstance(error, UserError) and not context.loaded:
                raise  # the model is not one that can be compressed: nothing has been computed
            record.run |= {
                "status": "failed",
                "stage": stages.current,
                "error": f"{type(error).__name__}: {error}",
            }
            # What earlier commands found and measured is not lost by this one's failure.
            if (earlier := folder.read_record()) is not None:
                kept = combined([], earlier).to_json()
                record.results = {**earlier.results, **record.results, **kept}
            reason = explained(error)
            suffix = "" if reason is None else f": {reason}"
            message = "failed in stage %s: %s%s"
            log.error(message, stages.current, folder.path, suffix, exc_info=reason is None)
        record.meta["stages"] = stages.to_json()
        folder.write_record(record)
        if record.run["status"] == "ok" and (folder.model / FILE).is_file():
            describe(folder.model, record)  # now with what was measured
        return record, compressed


def compress_and_evaluate(context: Context, record: Record, returned: bool) -> Loaded | None:
    """Everything that needs the model; fills the record as it goes.

    Args:
        context: The run.
        record: Its record.
        returned: Whether the model is returned; the record then says which weights these were.

    Returns:
        The compressed model; None if nothing is compressed.
    """
    config, results = context.config, record.results
    with context.stages("load"):
        model = load_model(config.model, config.dtype, context.device, config.placement)
        if config.model.ignored:
            results["ignored_tensors"] = config.model.ignored
        context.dense = check_model(context, model)
    replies = dense_replies(context)
    plans = compressed = None
    if config.compresses:
        plans = compress(context, record)
        compressed = Loaded(model, context.tokenizer, plans)
        if returned or config.model.save:
            record.meta[WEIGHTS] = weights_digest(model)
            note_maker(record.meta, environment.present_command())
        if config.model.save:
            with context.stages("save"):
                save(compressed, context.folder.model)
                describe(context.folder.model, record)
        context.cache.trim()
    else:
        results |= account_dense(context.dense)
    results |= measure(context, plans, replies, results["bytes"]["model_dense"]).to_json()
    return compressed


def compress(context: Context, record: Record) -> Plans:
    """Weights to factors, scores to ranks, rates to phases; then the model is changed in place."""
    config, results, stages = context.config, record.results, context.stages
    model, targets = context.model, context.dense.targets

    factors = decompose(context)
    scores = score(context)
    planner, probing = allocate(context, factors, scores)
    plans, search = schedule(context, factors, planner)
    context.folder.write_plan(plans.to_json())
    refined = refine(context, plans.constant)

    with stages("surgery"):
        results |= account(context, plans, factors, scores)
        results["rescues"] = fallbacks(plans, factors, refined, scores)
        for fallback in results["rescues"]:
            log.warning("fallback: %s: %s", fallback["target"], fallback["what"])
        results |= {"search": probing, "schedule_search": search.cost}
        record.meta["schedule_search_seconds"] = search.seconds
    if (healing := replace_layers(context, plans, refined or factors)) is not None:
        results["healing"] = healing
    with stages("surgery"):
        surgery.check_counts(model, targets, plans, config.form)
        note_coefficients(results["layers"], model, targets)
    with stages("quantization"):
        config.quantization.quantize(model, targets)
        if plans.phases:
            results["bytes"] |= stored_bytes(model, targets)
    return plans
