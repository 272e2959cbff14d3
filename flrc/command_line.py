"""What ``run.py`` does around Hydra: mistyped options, failing jobs, and the table at the end."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flrc import isolation
from flrc.errors import UserError, explained
from flrc.ledger import Ledger

log = logging.getLogger(__name__)

MULTIRUN = ("-m", "--multirun")
"""Hydra's flags that still run jobs."""
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

    from flrc.network import offline_by_default
    from flrc.overrides import check_overrides

    offline_by_default()
    if isolation.is_isolated():
        return _alone(main)
    try:
        check_overrides(conf, arguments)
        asked = any(word.startswith("-") and word not in MULTIRUN for word in arguments)
        ledger = None if asked else Ledger.begin(arguments)
    except UserError as error:
        return _complain(error)
    except (HydraException, OmegaConfBaseException) as error:  # a mistake in a YAML file
        return _complain(error)
    if ledger is None:  # --help, --cfg ...: Hydra answers
        main()
        return 0
    isolation.remember(sys.argv[0])
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
    code = max(code, _report(jobs, Path(conf).parent / "experiments", arguments))
    if code == INTERRUPTED:
        _complain("interrupted; the same command computes only what is missing")
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
        config = compose()
        assert isinstance(config, RunConfig)
        if config.dry_run:
            _note(**plan(config), **_which(config))
            return
        if not isolation.is_isolated() and (config.workers > 0 or _side_by_side()):
            _isolated(config)
            return
        from flrc import completion, pipeline
        from flrc.records.identity import run_folder

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

    words = list(HydraConfig.get().overrides.task)
    error = isolation.run(words, config.workers or MANY, _sweep())
    if error is not None:
        log.error("%s: %s", shlex.join(words), error)
        _note(status="failed", folder=None, error=error, **_which(config))


def _which(config: Any) -> dict[str, Any]:
    """The job's place in its study; nothing outside of one, or where it cannot be composed."""
    from flrc.records.identity import run_folder, run_id
    from flrc.studies.facts import facts_of

    if config is None or config.scale == "none":
        return {}
    runs = config.runs_path()
    try:
        place = {
            "run": run_id(config),
            "place": str(run_folder(config).path.relative_to(runs)),
        }
    except UserError:  # the model is not there, and the id is made of its weights
        return {}
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
    from flrc.completion import finished
    from flrc.preflight import check_inputs
    from flrc.records.identity import run_folder

    check_inputs(config)
    folder = run_folder(config)
    done = finished(config, folder) is not None
    return {"status": "done" if done else "would run", "folder": str(folder.path), "error": None}


def _note(**job: Any) -> None:
    """Note how this job ended, for the sweep's end."""
    from hydra.core.hydra_config import HydraConfig

    ledger = Ledger.of_this_job()
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    if ledger is None:
        return
    try:
        ledger.note({**job, "job": shlex.join(w for w in words if w not in isolation.ONE)})
    except OSError as error:
        if not isolation.is_isolated():
            raise
        sys.exit(_failure(error, "how the job ended cannot be noted"))  # its parent notes that


def _failure(error: Exception, what: str) -> int:
    """Tell the user; with the traceback, where it is no mistake of theirs."""
    problem = explained(error)
    if problem is None:
        log.error(what, exc_info=error)
    return _complain(problem or error)


def _complain(error: BaseException | str) -> int:
    print(f"\nerror: {error}\n", file=sys.stderr, flush=True)  # noqa: T201
    return 1


def _report(jobs: list[dict[str, Any]], experiments: Path, arguments: list[str]) -> int:
    """The table of the sweep's records, where it is rendered, and what failed.

    Returns:
        1 if there should be a table and cannot be one, else 0.
    """
    from rich.console import Console

    console = Console()
    folders = list(dict.fromkeys(job["folder"] for job in jobs if job["folder"]))
    waiting = [job for job in jobs if job["status"] in ("done", "would run")]
    if waiting:
        _announce(waiting, experiments, console)
        _list_failed(jobs, console)
        return 0
    code = 0
    if any("study" in job for job in jobs):
        from flrc.studies import sweep as studies

        try:
            studies.report([job for job in jobs if "study" in job], experiments, arguments, console)
        except (UserError, OSError) as error:
            code = _failure(error, "the tables are not rendered")
    elif folders:
        from flrc.records.store import RunFolder
        from flrc.reporting import print_table, render

        records = [r for r in (RunFolder(Path(f)).read_record() for f in folders) if r is not None]
        asked = {name for job in jobs for name in job.get("measurements", [])}
        for record in records:  # a record may hold more, from earlier commands
            measured = record.results.get("measurements", [])
            record.results["measurements"] = [m for m in measured if m["name"] in asked]
        if records:
            print_table(records)
        if any(record.run["status"] == "ok" for record in records):
            runs = Path(os.path.commonpath([str(Path(f).parent.parent) for f in folders]))
            name = time.strftime("%Y%m%d-%H%M%S") + "-" + records[0].run["id"][:4]
            try:
                written = render(records, runs / "tables" / name)
            except (UserError, OSError) as error:
                code = _failure(error, "the table is not rendered")
            else:
                console.print("rendered: " + ", ".join(str(p) for p in written), soft_wrap=True)
    _list_failed(jobs, console)
    return code


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
        from flrc.studies.estimate import estimate

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
