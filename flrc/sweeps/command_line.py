"""What ``run.py`` does around Hydra: mistyped options, failing jobs, and the table at the end."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flrc.core import job_process
from flrc.errors import UserError, explained
from flrc.sweeps import isolation
from flrc.sweeps.hydra_grammar import Command, given_words, made_of, parse, quoted
from flrc.sweeps.job_log import Ledger

log = logging.getLogger(__name__)

MANY = 64
"""Jobs at a time where nothing else is said: the launcher decides."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def sweep(main: Callable[[], None], conf: str, arguments: list[str]) -> int:
    """Run one job or a sweep of jobs.

    Args:
        main: The function that Hydra wraps.
        conf: Folder of the configuration.
        arguments: The command line.

    Returns:
        Exit code: 0 if every job ended well, else 1.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from flrc.core.network import offline_by_default
    from flrc.sweeps.override_checks import check_overrides

    offline_by_default()
    if job_process.is_isolated():
        return _alone(main)
    command = Command.of(conf, arguments)
    if not command.runs:  # --help, --cfg ...: Hydra answers
        main()
        return 0
    try:
        check_overrides(command.place, command.words)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return complain(error)
    ledger = Ledger.lead()
    isolation.remember(sys.argv[0], command.finding)
    sys.argv[1:] = [*command.flags, *command.words]  # Hydra wants its flags first
    code, jobs = 0, []
    try:
        main()
    except SystemExit as end:  # Hydra ends the process when composition fails
        code = 1 if end.code else 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # a launcher's: a worker of its own is gone, say
        code = _failure(error, "the launcher ended")
    finally:
        jobs = ledger.jobs()
        ledger.end()
        isolation.forget(ledger.sweep)
    code = max(code, _report(jobs, Path(conf).parent / "experiments", command.words))
    if code == INTERRUPTED:
        complain("interrupted; the same command computes only what is missing")
    return max(code, int(any(job["status"] == "failed" for job in jobs)))


def _alone(main: Callable[[], None]) -> int:
    """The one job of this process; the process that asked for it tells the user."""
    try:
        main()
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def job(compose: Callable[[], Any]) -> None:
    """Run one job; a failure is printed at once and costs no other job.

    Args:
        compose: Makes the validated configuration.
    """
    from flrc.config import RunConfig

    config = None
    try:
        with made_of(_words()):
            config = compose()
        assert isinstance(config, RunConfig)
        if config.dry_run:
            _note(**plan(config), **_which(config))
            return
        if not job_process.is_isolated() and (config.workers > 0 or _side_by_side()):
            _isolated(config)
            return
        from flrc import pipeline
        from flrc.running import finished as completion
        from flrc.running.identity import run_folder

        record = pipeline.run(config)
        folder = run_folder(config)
        if record.run["status"] == "ok":
            config.tracker.publish(record, folder.path)
        _note(
            status=record.run["status"],
            folder=str(folder.path),
            error=record.run.get("error"),
            measurements=completion.requested(config, folder),
            **_which(config),
        )
    except Exception as error:
        _failure(error, "a job failed")
        problem = explained(error)
        said = str(error) if problem is None else problem.problem
        _note(status="failed", folder=None, error=said, **_which(config))


def _side_by_side() -> bool:
    """Whether a launcher runs several jobs at a time."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices["hydra/launcher"]) != "basic"


def _sweep() -> str:
    """The name of the sweep that this job belongs to."""
    ledger = Ledger.of_this_job()
    assert ledger is not None
    return ledger.sweep


def _isolated(config: Any) -> None:
    """The job in a process of its own; if that does not come to its end, this is noted here."""
    from hydra.core.hydra_config import HydraConfig

    words = _words()
    found_by = [
        override.input_line
        for override in parse(given_words(HydraConfig.get().overrides.hydra))
        if override.key_or_group == "hydra.searchpath"
    ]
    # ${now:...} and ${hydra:job.num} are others in a process that runs one job.
    composed = [*found_by, f"paths.runs={quoted(config.paths.runs)}"]
    error = isolation.run(words, config.workers or MANY, _sweep(), composed)
    if error is not None:
        log.error("%s: %s", shlex.join(words), error)
        _note(status="failed", folder=None, error=error, **_which(config))


def _which(config: Any) -> dict[str, Any]:
    """Where the job's records go; of a job of a study also its place there."""
    from flrc.results.tables.facts import facts_of
    from flrc.running.identity import run_folder, run_id

    if config is None:
        return {}
    runs = config.runs_path()
    if config.scale == "none":
        return {"runs": str(runs)}
    try:
        place = {
            "run": run_id(config),
            "place": str(run_folder(config).path.relative_to(runs)),
        }
    except UserError:  # the model is not there, and the id is made of its weights
        return {"runs": str(runs)}
    return place | {
        "study": config.study,
        "scale": config.scale,
        "runs": str(runs),
        "facts": facts_of(config.to_plain()),
        "seed": config.seed,
        "tracker": dataclasses.asdict(config.tracker),
    }


def plan(config: Any) -> dict[str, Any]:
    """What a job would do, without doing it (``dry_run=true``)."""
    from flrc.running.finished import finished
    from flrc.running.identity import run_folder
    from flrc.running.preflight import check_inputs

    check_inputs(config)
    folder = run_folder(config)
    done = finished(config, folder) is not None
    return {"status": "done" if done else "would run", "folder": str(folder.path), "error": None}


def _note(**job: Any) -> None:
    """Note how this job ended, for the sweep's end."""
    ledger = Ledger.of_this_job()
    if ledger is None:
        return
    try:
        ledger.note({**job, "job": shlex.join(job_process.own(_words()))})
    except OSError as error:
        if not job_process.is_isolated():
            raise
        sys.exit(_failure(error, "how the job ended cannot be noted"))  # its parent notes that


def _words() -> list[str]:
    """The overrides of this job."""
    from hydra.core.hydra_config import HydraConfig

    return given_words(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _failure(error: Exception, what: str) -> int:
    """Tell the user; with the traceback, where it is no mistake of theirs."""
    problem = explained(error)
    if problem is None:
        log.error(what, exc_info=error)
    return complain(problem or error)


def complain(error: BaseException | str) -> int:
    """Tell the user; returns the exit code."""
    print(f"\nerror: {error}\n", file=sys.stderr, flush=True)  # noqa: T201
    return 1


def _report(jobs: list[dict[str, Any]], experiments: Path, words: list[str]) -> int:
    """The tables of the sweep's records, where they are rendered, and what failed.

    Returns:
        1 if there should be a table and cannot be one, else 0.
    """
    from rich.console import Console

    console = Console()
    waiting = [job for job in jobs if job["status"] in ("done", "would run")]
    if waiting:
        _announce(waiting, experiments, console)
        _list_failed(jobs, console)
        return 0
    code = 0
    for group in _grouped(jobs):
        try:
            if "study" in group[0]:
                from flrc.sweeps import study_report

                study_report.report(group, experiments, words, console)
            else:
                _table(group, console)
        except (UserError, OSError) as error:
            code = _failure(error, "the table is not rendered")
    _list_failed(jobs, console)
    return code


def _grouped(jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The jobs of one table: of one study at one scale, or of none, in one folder of runs."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for job in jobs:
        if "runs" in job:
            key = (job["runs"], job.get("study"), job.get("scale"))
            groups.setdefault(key, []).append(job)
    return list(groups.values())


def _table(jobs: list[dict[str, Any]], console: Any) -> None:
    """Print the table of jobs outside of studies, and write it below their folder of runs."""
    from flrc.results.pages.report import print_table, render
    from flrc.results.records.store import RunFolder

    folders = dict.fromkeys(job["folder"] for job in jobs if job["folder"])
    records = [r for r in (RunFolder(Path(f)).read_record() for f in folders) if r is not None]
    asked = {name for job in jobs for name in job.get("measurements", [])}
    for record in records:  # a record may hold more, from earlier commands
        measured = record.results.get("measurements", [])
        record.results["measurements"] = [m for m in measured if m["name"] in asked]
    if records:
        print_table(records)
    if any(record.run["status"] == "ok" for record in records):
        name = time.strftime("%Y%m%d-%H%M%S") + "-" + records[0].run["id"][:4]
        written = render(records, Path(jobs[0]["runs"]) / "tables" / name)
        console.print("rendered: " + ", ".join(str(p) for p in written), soft_wrap=True)


def _announce(jobs: list[dict[str, Any]], experiments: Path, console: Any) -> None:
    """What a dry run says: every job, and how long those that will run may take."""
    seen: set[str] = set()
    for job in jobs:
        status = "as above" if job["folder"] in seen else job["status"]
        seen.add(job["folder"])
        line = f"{status:>10}  {job['folder']}"
        console.print(line, soft_wrap=True, highlight=False)
    first = {job["folder"]: job for job in reversed(jobs)}
    waiting = [job for job in first.values() if job["status"] == "would run"]
    if waiting and all("study" in job for job in waiting):
        from flrc.results.studies.estimate import estimate

        console.print(estimate(waiting, experiments), soft_wrap=True, highlight=False)


def _list_failed(jobs: list[dict[str, Any]], console: Any) -> None:
    failed = [job for job in jobs if job["status"] == "failed"]
    if failed:
        console.print(f"{len(failed)} of {len(jobs)} jobs failed:", style="bold red")
        for job in failed:
            console.print(f"  {job['job']}: {job['error']}", soft_wrap=True, markup=False)
            if job["folder"]:
                console.print(f"    see {job['folder']}/run.log", soft_wrap=True, markup=False)
        console.print("The same command computes only what is missing.")
