"""A run is a function: configuration in, record out.

Reads like the paper's section 3, top to bottom.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from flrc.config import RunConfig
from flrc.core.cache import locked
from flrc.errors import UserError, explained
from flrc.models.checkpoints.save_folder import check_save_folder
from flrc.results.records.record import Record
from flrc.running import environment
from flrc.running.evaluations import Run, measure
from flrc.running.finished import finished
from flrc.running.identity import run_folder, run_id
from flrc.running.preflight import Prepared, check_inputs, check_targets, prepare
from flrc.running.stages import Stages

if TYPE_CHECKING:
    from flrc.allocator.planner import Planner
    from flrc.calibration.statistics import GradientStatistics
    from flrc.decomposition.factor_store import StoredFactors
    from flrc.models.checkpoints.checkpoint import Loaded
    from flrc.plans.run_plans import Plans
    from flrc.plans.target import Target
    from flrc.refine.factor_store import RefinedFactors
    from flrc.results.records.store import RunFolder
    from flrc.running.factors import Calibrated
    from flrc.search.base import Found

log = logging.getLogger(__name__)

FEW = 16
"""Tokens on which a model's blocks are compared with the whole."""


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
    if (done := finished(config, run_folder(config))) is not None:
        return done
    return _run(config, again=False)[0]


def run_with_model(config: RunConfig) -> tuple[Record, Loaded | None]:
    """:func:`run`, and the model that it made; evaluations that are done are not repeated.

    Returns:
        The record, and the compressed model; None where nothing is compressed or the run failed.
    """
    check_inputs(config)
    return _run(config, again=True)


def _run(config: RunConfig, again: bool) -> tuple[Record, Loaded | None]:
    """The run, in its locked folder; ``again``: even if its record is done."""
    folder = run_folder(config)
    stages = Stages()
    environment.set_threads(config.threads)
    with stages("preflight"):
        if config.model.save and config.compresses:
            check_save_folder(folder.model)
        prepared = prepare(config)
    with folder.lock(), environment.log_file(folder.path / "run.log"):
        # Another worker may have finished it while this one waited.
        if not again and (done := finished(config, folder)) is not None:
            return done, None
        meta = environment.meta_block(config) | prepared.read()
        record = Record(run=environment.run_block(config, run_id(config)), meta=meta)
        compressed: Loaded | None = None
        try:
            compressed = compress_and_evaluate(config, prepared, folder, record, stages)
            record.run["status"] = "ok"
        except Exception as error:
            if stages.current == "load" and isinstance(error, UserError):
                raise  # it is no model for this: nothing has been computed
            record.run |= {
                "status": "failed",
                "stage": stages.current,
                "error": f"{type(error).__name__}: {error}",
            }
            told = explained(error)
            what = "failed in stage %s: %s" if told is None else f"failed in stage %s: %s: {told}"
            log.error(what, stages.current, folder.path, exc_info=told is None)
        record.meta["stages"] = stages.to_json()
        folder.write_record(record)
        return record, compressed


def compress_and_evaluate(
    config: RunConfig, prepared: Prepared, folder: RunFolder, record: Record, stages: Stages
) -> Loaded | None:
    """Everything that needs the model; fills the record as it goes.

    Returns:
        The compressed model; None where nothing is compressed.
    """
    from flrc.form.surgery import check_counts, compress
    from flrc.models.anatomy.block_by_block import check_walk
    from flrc.models.anatomy.target_coverage import check_coverage
    from flrc.models.anatomy.targets import find_targets
    from flrc.models.checkpoints.checkpoint import Loaded, save
    from flrc.models.layers.sizes import stored_bytes
    from flrc.models.sources.loading import load_model
    from flrc.running.accounting import account, account_dense, note_coefficients
    from flrc.running.dense_replies import replies_of_dense_model

    with stages("load"):
        model = load_model(config.model, config.dtype, prepared.device, config.placement)
        if config.model.ignored:
            record.results["ignored_tensors"] = config.model.ignored
        targets = config.grouping.targets(find_targets(model))
        if config.compresses and targets != prepared.targets:  # found with the weights alone
            check_coverage(model, targets, config.rate, config.model.partial)
            check_targets(config, prepared.cache, model, targets)
        if config.calibrates:
            check_walk(model, prepared.sequences[0][:FEW], 2 if config.allocator.PROBES else 1)
    dense_replies = replies_of_dense_model(config, prepared, model, stages)

    plans: Plans | None = None
    if config.compresses:
        factors = decompose(config, prepared, model, targets, stages)
        scores = score(config, prepared, model, targets, stages)
        with stages("allocation"):
            planner, search = allocate(config, prepared, model, targets, factors, scores)
        with stages("schedule"):
            plans, found = schedule(config, prepared, model, planner, factors)
        folder.write_plan(plans.to_json())
        refined = refine(config, prepared, model, targets, factors, plans, stages)
        with stages("surgery"):
            record.results |= account(config, model, targets, plans, factors, refined, scores)
            for row in record.results["rescues"]:
                log.warning("rescue: %s: %s", row["target"], row["what"])
            record.results |= {"search": search, "schedule_search": found.cost}
            record.meta["schedule_search_seconds"] = found.seconds
            compress(model, targets, plans.all, config.form, (refined or factors).factors)
            check_counts(model, targets, plans, config.form)
            note_coefficients(record.results["layers"], model, targets)
        with stages("quantization"):
            config.quantization.quantize(model, targets)
            record.results["bytes"] |= stored_bytes(model, targets)
        if config.model.save:
            with stages("save"):
                save(Loaded(model, prepared.tokenizer, plans), folder.model)
        prepared.cache.trim()
    else:
        record.results |= account_dense(model, targets)
    run_of = Run(config, prepared, folder, stages, record.results["bytes"]["model_dense"])
    measured = measure(run_of, model, targets, plans, dense_replies)
    record.results["measurements"] = [vars(measurement) for measurement in measured]
    return None if plans is None else Loaded(model, prepared.tokenizer, plans)


def decompose(
    config: RunConfig, prepared: Prepared, model: Any, targets: list[Target], stages: Stages
) -> StoredFactors:
    """Full-rank factors of every target, shared by all rates and allocators."""
    from flrc.running.factors import factorise

    return factorise(
        config.decomposition,
        model,
        targets,
        calibrated(config, prepared),
        cache=prepared.cache,
        inputs=environment.target_inputs(config),
        stages=stages,
    )


def calibrated(config: RunConfig, prepared: Prepared) -> Calibrated:
    """What statistics are taken on."""
    from flrc.running.factors import Calibrated

    return Calibrated(
        prepared.sequences,
        environment.calibrated_inputs(config, prepared.tokens),
        keep=config.paths.keep_statistics_gb * 1e9,
        memory=config.paths.statistics_memory_gb * 1e9,
        seed=config.seed,
    )


def score(
    config: RunConfig, prepared: Prepared, model: Any, targets: list[Target], stages: Stages
) -> dict[str, float]:
    """Score of every target (eq. 1, 4 or 5); empty where the allocator reads none."""
    from flrc.running.scores import gradient_statistics, scores_of
    from flrc.sensitivity.base import ScoreContext

    if not config.allocator.SCORED:
        return {}
    inputs = environment.calibrated_inputs(config, prepared.tokens)
    with stages("sensitivity") as stage:

        def gradients(reduction: str) -> dict[str, GradientStatistics]:
            entry = prepared.cache.entry("gradients", {**inputs, "reduction": reduction})
            stage.cached = entry.done
            sequences, memory = prepared.sequences, config.paths.statistics_memory_gb * 1e9
            return gradient_statistics(model, targets, sequences, reduction, entry, memory)

        context = ScoreContext(targets, model, prepared.sequences, gradients, config.seed)
        what = {"sensitivity": config.sensitivity.describe(), "grouping": config.grouping.name}
        entry = prepared.cache.entry("scores", {**inputs, **what})
        stage.cached = entry.done
        return scores_of(config.sensitivity, context, entry)


def allocate(
    config: RunConfig,
    prepared: Prepared,
    model: Any,
    targets: list[Target],
    factors: StoredFactors,
    scores: dict[str, float],
) -> tuple[Planner, dict[str, Any]]:
    """Ranks for the requested rate (eq. 2), and for any other.

    Returns:
        What gives ranks for a rate, and what its search for them has cost.
    """
    from flrc.allocator.evidence import Evidence
    from flrc.allocator.planner import Planner
    from flrc.allocator.probes import Probes
    from flrc.allocator.settled import dead_targets

    probes = Probes(model, targets, factors, prepared.sequences, prepared.cache)
    dead = dead_targets(scores, factors.kept())
    evidence = Evidence(scores, factors.spectrum, probes, dead)
    planner = Planner(config.allocator, targets, config.form, evidence)
    planner.constant(config.rate)
    return planner, probes.cost()


def schedule(
    config: RunConfig, prepared: Prepared, model: Any, planner: Planner, factors: StoredFactors
) -> tuple[Plans, Found]:
    """The phases, given or searched, and their ranks (eq. 3)."""
    from flrc.plans.run_plans import Plans
    from flrc.search.base import Compression
    from flrc.search.none import NoSearch

    what = {"factors": factors.entry.inputs, "model": environment.model_inputs(config)}
    entry = prepared.cache.entry("replies", {**what, "form": config.form.describe()})
    compression = Compression(
        model, prepared.tokenizer, planner, factors, config.data, entry, config.seed
    )
    search = config.search if config.searches else NoSearch()
    found = search.search(config.schedule, config.rate, compression)
    constant = planner.constant(config.rate)
    return Plans(constant, planner.phases(found.phases), found.candidates), found


def refine(
    config: RunConfig,
    prepared: Prepared,
    model: Any,
    targets: list[Target],
    factors: StoredFactors,
    plans: Plans,
    stages: Stages,
) -> RefinedFactors | None:
    """The factors fitted to the plan; None where they are used as they were decomposed."""
    from flrc.refine.base import Decided
    from flrc.refine.factor_store import refined_factors
    from flrc.running.factors import kept_statistics, known_statistics

    if not config.refine.REFINES:
        return None
    what = {"factors": factors.entry.inputs, "ranks": plans.constant.ranks}
    what |= environment.calibrated_inputs(config, prepared.tokens) | {
        "refine": config.refine.describe()
    }
    entry = prepared.cache.entry("refined", what)
    on = calibrated(config, prepared)
    kept = kept_statistics(
        config.decomposition, targets, on, environment.target_inputs(config), prepared.cache
    )
    with locked(entry, *kept), stages("refinement") as stage:
        stage.cached = entry.done
        statistics = known_statistics(config.decomposition, model, targets, on, kept)
        decided = Decided(
            model, targets, plans.constant, config.decomposition, prepared.sequences, statistics
        )
        return refined_factors(config.refine, decided, entry)
