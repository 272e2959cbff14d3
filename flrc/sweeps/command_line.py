"""What the command line does around Hydra: check the overrides, run the jobs, report at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from flrc.config import register
from flrc.core import job_process
from flrc.core.error_output import print_error, print_failure
from flrc.core.network import offline_by_default
from flrc.core.progress import display
from flrc.errors import UserError
from flrc.sweeps import job_isolation
from flrc.sweeps.arguments import Command
from flrc.sweeps.failed_jobs import list_failed
from flrc.sweeps.help_text import help_text, version_text
from flrc.sweeps.job_log import JobLog
from flrc.sweeps.missing_settings import set_by_each_job
from flrc.sweeps.override_checks import check_overrides
from flrc.sweeps.study_models import register_models

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


def sweep(main: Callable[[], None], conf: str, arguments: list[str]) -> int:
    """Run one job or a sweep of jobs; ``conf`` is the folder of the configuration.

    Returns:
        Exit code: 0 if every job succeeded.
    """
    offline_by_default()
    if job_process.is_isolated():
        register()
        with suppress(UserError):  # which composing reports
            command = Command.of(conf, arguments)
            register_models(command.location, command.overrides)
        display.lines = True  # other jobs may write to the same terminal
        with display.shown("starting"):
            return _run_single_job(main)
    if "--version" in arguments:
        print(version_text())  # noqa: T201
        return 0
    try:
        command = Command.of(conf, arguments)
        if command.asks_help:
            print(help_text(command.location), end="")  # noqa: T201
            return 0
        register()
        if command.runs:
            check_overrides(command.location, command.overrides, command.multirun)
            words = set_by_each_job(command.location, command.overrides)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return print_error(error)
    if not command.runs:  # --cfg, --info ...: Hydra answers
        with suppress(UserError):  # which Hydra reports
            register_models(command.location, command.overrides)
        main()
        return 0
    with display.shown("starting"):
        return _sweep(main, conf, command, words)


def _sweep(main: Callable[[], None], conf: str, command: Command, words: list[str]) -> int:
    job_log = JobLog.of_new_sweep()
    job_isolation.set_program(sys.argv[0], command.location_flags)
    sys.argv[1:] = [*command.flags, *words]  # Hydra expects its flags first
    code, entries = 0, []
    try:
        main()
    except SystemExit as end:  # Hydra ends the process when composition fails
        code = 1 if end.code else 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # raised by a launcher, for example because a worker died
        code = print_failure(error, "the launcher failed")
    finally:
        os.environ.pop(job_process.JOBS, None)
        display.job = ""
        entries = job_log.entries()
        job_log.remove()
        job_isolation.remove_locks(job_log.sweep)
    if not all(entry.mistake for entry in entries):
        from flrc.sweeps.report import report  # imports pandas, which mistakes need not wait for

        with display.paused():  # tables go to standard output
            code = max(code, report(entries, Path(conf).parent / "experiments", command.overrides))
    with display.paused():
        list_failed(entries)
    if code == INTERRUPTED:
        print_error("interrupted; the same command computes only what is missing")
    return max(code, int(any(entry.status == "failed" for entry in entries)))


def _run_single_job(main: Callable[[], None]) -> int:
    # The process that started this one reports to the user.
    try:
        main()
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
