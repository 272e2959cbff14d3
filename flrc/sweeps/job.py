"""One job: compose its configuration, run it here or in a process of its own, log how it ended."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from collections.abc import Callable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from flrc.config import RunConfig
from flrc.core import job_process
from flrc.core.error_output import print_failure
from flrc.core.imports import uncollected
from flrc.core.progress import display
from flrc.errors import UserError, explained, is_mistake
from flrc.results.tables.facts import facts_of
from flrc.running.finished import finished, requested
from flrc.running.identity import run_folder, run_id
from flrc.running.preflight import check_inputs
from flrc.sweeps import job_isolation
from flrc.sweeps.job_log import JobEntry, JobLog, StudyJob
from flrc.sweeps.overrides import composing, parse, quoted, unresolved

log = logging.getLogger(__name__)

UNLIMITED = 64
"""Jobs at a time on one machine where ``workers`` is not set: the launcher decides."""


def run(compose: Callable[[], Any]) -> None:
    """Run one job. A failure is printed and logged; the other jobs of the sweep go on.

    Args:
        compose: Returns the validated configuration.
    """
    config: RunConfig | None = None
    display.job = _job()
    try:
        with composing(_overrides()):
            config = compose()
        assert isinstance(config, RunConfig)
        if config.dry_run:
            entry = _plan(config)
        elif not job_process.is_isolated() and (config.workers > 0 or _in_parallel()):
            error = _run_isolated(config)
            if error is None:  # it has logged itself
                return
            entry = JobEntry("failed", error=error)
        else:
            entry = _run_here(config)
    except Exception as failure:
        print_failure(failure, "a job failed")
        problem = explained(failure)
        error = str(failure) if problem is None else problem.problem
        entry = JobEntry("failed", error=error, mistake=is_mistake(failure))
    _log(entry, config)


def _plan(config: RunConfig) -> JobEntry:
    """What the job would do, without doing it (``dry_run=true``)."""
    check_inputs(config)
    folder = run_folder(config)
    if finished(config, folder) is not None:
        return JobEntry("done", str(folder.path))
    display.stage("counting what the run takes", announce=False)
    with uncollected():
        from flrc.running.dry_run import estimate_run  # imports torch

    estimate = estimate_run(config)
    taken = None if estimate is None else estimate.to_json()
    return JobEntry("would run", str(folder.path), estimate=taken)


def _run_here(config: RunConfig) -> JobEntry:
    display.stage("starting", announce=False)
    with uncollected():
        from flrc import pipeline  # imports torch

    record = pipeline.run(config)
    folder = run_folder(config)
    sent = record.run["status"] == "ok" and config.tracker.publish(record, folder.path)
    error = record.run.get("error")
    asked = requested(config, folder)
    return JobEntry(
        record.run["status"],
        str(folder.path),
        error,
        [measurement.name for measurement in asked],
        mistake=error is not None and str(error).startswith(UserError.__name__),
        tracker=dataclasses.asdict(config.tracker) if sent else {},
        keys=[measurement.key for measurement in asked],
    )


def _run_isolated(config: RunConfig) -> str | None:
    """Run the job in a process of its own; returns why that process did not end normally."""
    overrides = _overrides()
    search_path = [
        override.input_line
        for override in parse(unresolved(HydraConfig.get().overrides.hydra))
        if override.key_or_group == "hydra.searchpath"
    ]
    # ${now:...} and ${hydra:job.num} have other values in a process that runs a single job.
    composed = [*search_path, f"paths.runs={quoted(config.paths.runs)}"]
    job_log = JobLog.of_this_job()
    assert job_log is not None
    error = job_isolation.run(overrides, config.workers or UNLIMITED, job_log.sweep, composed)
    if error is not None:
        log.error("%s: %s", shlex.join(overrides), error)
    return error


def _job() -> str:
    """Which job of a sweep this is, for what is shown; empty outside of sweeps."""
    if job_process.is_isolated():
        return job_process.job_of_sweep(0)
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return ""
    return job_process.job_of_sweep(int(HydraConfig.get().job.num))


def _in_parallel() -> bool:
    return str(HydraConfig.get().runtime.choices["hydra/launcher"]) != "basic"


def _overrides() -> list[str]:
    return unresolved(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _log(entry: JobEntry, config: RunConfig | None) -> None:
    """Add the job to the job log of its sweep."""
    job_log = JobLog.of_this_job()
    if job_log is None:
        return
    overrides = shlex.join(job_process.user_overrides(_overrides()))
    runs, study = (None, None) if config is None else (str(config.runs_path()), study_job(config))
    entry = dataclasses.replace(entry, overrides=overrides, runs=runs, study=study)
    try:
        job_log.add(entry)
    except OSError as error:
        if not job_process.is_isolated():
            raise
        # The exit code tells the process that started this one.
        sys.exit(print_failure(error, "the job log cannot be written"))


def study_job(config: RunConfig) -> StudyJob | None:
    """The job's place in its study; None outside of studies, or if the model is not available."""
    if config.scale == "none":
        return None
    try:
        run, folder = run_id(config), run_folder(config).path
    except UserError:  # the id depends on the model's weights, which are missing
        return None
    return StudyJob(
        study=config.study,
        scale=config.scale,
        run=run,
        place=str(folder.relative_to(config.runs_path())),
        facts=facts_of(config.to_plain()),
        seed=config.seed,
        tracker=dataclasses.asdict(config.tracker),
    )
