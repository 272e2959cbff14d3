"""What ``run.py`` does around Hydra: mistyped options, failing jobs, and the table at the end."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flrc import isolation
from flrc.errors import UserError

log = logging.getLogger(__name__)

MANY = 64
"""Jobs at a time where nothing else is said: the launcher decides."""
LEDGER = "FLRC_SWEEP_LEDGER"
"""Environment variable: the file in which every job, in any process, notes how it ended."""


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
        main()  # the process that asked for it tells the user
        return 0
    try:
        check_overrides(conf, arguments)
    except UserError as error:
        return _complain(error)
    except (HydraException, OmegaConfBaseException) as error:  # a mistake in a YAML file
        return _complain(error)
    ledger = _ledger(arguments)
    os.environ[LEDGER] = str(ledger)
    isolation.remember(sys.argv[0])
    code = 0
    try:
        main()
    except SystemExit as end:  # Hydra ends the process when composition fails
        code = 1 if end.code else 0
    except Exception as error:  # a launcher's: a worker of its own is gone, say
        log.exception("the launcher ended")
        code = _complain(error)
    finally:
        jobs = _read(ledger)
        ledger.unlink(missing_ok=True)
        isolation.forget(ledger.stem)
        del os.environ[LEDGER]
    code = max(code, _report(jobs, Path(conf).parent / "experiments", arguments))
    return max(code, int(any(job["status"] == "failed" for job in jobs)))


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
    except UserError as error:
        _complain(error)
        _note(status="failed", folder=None, error=error.problem, **_which(config))
    except Exception as error:
        cause = error.__cause__
        if not isinstance(cause, UserError):
            log.exception("a job failed")
        _complain(cause if isinstance(cause, UserError) else error)
        _note(status="failed", folder=None, error=str(error), **_which(config))


def _side_by_side() -> bool:
    """Whether a launcher runs several jobs at a time."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices["hydra/launcher"]) != "basic"


def _isolated(config: Any) -> None:
    """The job in a process of its own; if that does not come to its end, this is noted here."""
    from hydra.core.hydra_config import HydraConfig

    words = list(HydraConfig.get().overrides.task)
    error = isolation.run(words, config.workers or MANY, Path(os.environ[LEDGER]).stem)
    if error is not None:
        log.error("%s: %s", shlex.join(words), error)
        _note(status="failed", folder=None, error=error, **_which(config))


def _ledger(arguments: list[str]) -> Path:
    """Where this sweep's jobs note how they ended: beside the records, which all of them reach."""
    from flrc.config import Paths

    given = [word.partition("=")[2] for word in arguments if word.startswith("paths.runs=")]
    runs = Path(given[-1].strip("'\"") if given else Paths.runs).expanduser().resolve()
    return runs / f".sweep-{uuid.uuid4().hex[:12]}.jsonl"


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
    """Append one line to the sweep's ledger (whole lines: jobs may run side by side)."""
    from hydra.core.hydra_config import HydraConfig

    path = os.environ.get(LEDGER)
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    job["job"] = shlex.join(word for word in words if word not in isolation.ONE)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(job) + "\n")


def _read(ledger: Path) -> list[dict[str, Any]]:
    if not ledger.is_file():
        return []
    return [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]


def _complain(error: BaseException) -> int:
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
        return 0
    code = 0
    if any("study" in job for job in jobs):
        from flrc.studies import sweep as studies

        try:
            studies.report([job for job in jobs if "study" in job], experiments, arguments, console)
        except UserError as error:
            code = _complain(error)
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
            except UserError as error:
                code = _complain(error)
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
        if len(failed) < len(jobs):
            console.print("The same command computes only what is missing.")
