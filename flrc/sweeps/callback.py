"""The Hydra callback that creates a command's job log, beside the records of its first job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flrc.config import Paths
from flrc.core.error_output import print_error
from flrc.core.folders import check_writable
from flrc.core.job_process import JOBS
from flrc.errors import UserError
from flrc.sweeps.grid import as_hydra_config, first_job, grid, is_enumerated, job_count
from flrc.sweeps.job_checks import check_jobs
from flrc.sweeps.job_log import JobLog
from flrc.sweeps.missing_settings import check_settings_exist
from flrc.sweeps.model_names import check_named_models, register_named_models
from flrc.sweeps.overrides import parse, quoted, unresolved

SWEEP_DIR = "hydra.sweep.dir"


class JobLogCallback(Callback):  # type: ignore[misc]
    """Creates the job log as soon as Hydra has composed the command; see ``conf/config.yaml``.

    Hydra turns exceptions of callbacks into warnings, so errors are printed and end the process.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called for a command with one job."""
        with _exit_on_error():
            _create_job_log(config)
            _check_folder("hydra.run.dir", config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called for a sweep; makes Hydra write its own files to the first job's folder of runs.

        In ``config`` every swept key has its default value, and Hydra would use that folder.
        """
        with _exit_on_error():
            _register_models_of_study(config)
            if is_enumerated(config):
                check_settings_exist(config)
            first = first_job(config)
            if is_enumerated(config):
                os.environ[JOBS] = str(job_count(config))
                if not first.dry_run:  # which lists what is wrong with each job
                    check_jobs(config)
            folder = _create_job_log(first)
            given = parse(unresolved(config.hydra.overrides.hydra))
            if folder is not None and all(o.key_or_group != SWEEP_DIR for o in given):
                OmegaConf.update(config, SWEEP_DIR, str(folder))
                config.hydra.overrides.hydra.append(f"{SWEEP_DIR}={quoted(str(folder))}")
            _check_folder(SWEEP_DIR, config)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        raise SystemExit(print_error(error)) from error


def _create_job_log(config: DictConfig) -> Path | None:
    """Create the job log of a command whose first job has this configuration; its folder.

    That is the folder of runs, or a temporary one for a dry run in this process. None in the
    process of a single job, whose sweep has created the log.
    """
    job_log = JobLog.of_own_sweep()
    if job_log is None:
        return None
    with as_hydra_config(config):
        paths = OmegaConf.to_object(config.paths)
        assert isinstance(paths, Paths)
        runs = Path(paths.runs).expanduser().resolve()
        in_this_process = str(config.hydra.runtime.choices["hydra/launcher"]) == "basic"
        return job_log.create(None if config.dry_run and in_this_process else runs)


def _check_folder(setting: str, config: DictConfig) -> None:
    """Check that Hydra can create one of its folders; to an existing one it writes nothing."""
    with as_hydra_config(config):
        folder = Path(OmegaConf.select(config, setting))
    if not folder.is_dir():
        check_writable(setting, folder)


def _register_models_of_study(config: DictConfig) -> None:
    """Register and check the models that a study's grid names; the command line's are known."""
    given = unresolved(config.hydra.overrides.task)
    of_study = [override for override in grid(config) if override.input_line not in given]
    register_named_models(of_study)
    check_named_models(of_study)
