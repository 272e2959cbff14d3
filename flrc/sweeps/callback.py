"""The Hydra callback that creates a command's job log, beside the records of its first job."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flrc.config import Paths
from flrc.core.folders import check_writable
from flrc.core.job_process import JOBS
from flrc.errors import UserError
from flrc.sweeps.error_output import print_error
from flrc.sweeps.job_log import JobLog
from flrc.sweeps.model_names import check_named_models, register_named_models
from flrc.sweeps.overrides import parse, quoted, unresolved, values

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
            folder = _create_job_log(first_job(config))
            if str(config.hydra.runtime.choices["hydra/sweeper"]) == "basic":
                os.environ[JOBS] = str(_job_count(config))
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
    with _as_hydra_config(config):
        paths = OmegaConf.to_object(config.paths)
        assert isinstance(paths, Paths)
        runs = Path(paths.runs).expanduser().resolve()
        in_this_process = str(config.hydra.runtime.choices["hydra/launcher"]) == "basic"
        return job_log.create(None if config.dry_run and in_this_process else runs)


def _check_folder(setting: str, config: DictConfig) -> None:
    """Check that Hydra can create one of its folders; to an existing one it writes nothing."""
    with _as_hydra_config(config):
        folder = Path(OmegaConf.select(config, setting))
    if not folder.is_dir():
        check_writable(setting, folder)


def _register_models_of_study(config: DictConfig) -> None:
    """Register and check the models that a study's grid names; the command line's are known."""
    given = unresolved(config.hydra.overrides.task)
    of_study = [override for override in _grid(config) if override.input_line not in given]
    register_named_models(of_study)
    check_named_models(of_study)


def first_job(config: DictConfig) -> DictConfig:
    """The configuration of a sweep's first job; in ``config`` swept keys have their defaults.

    Raises:
        UserError: If a sweep has no values, or they cannot be enumerated.
    """
    loader = GlobalHydra.instance().config_loader()
    with _as_hydra_config(config), suppress(OmegaConfBaseException):
        config.paths.runs  # noqa: B018  # resolves ``${now:...}``, which Hydra caches for all jobs
    overrides = _grid(config)
    if str(config.hydra.runtime.choices["hydra/sweeper"]) != "basic":  # it may take intervals
        overrides = [override for override in overrides if not override.is_interval_sweep()]
    first: list[str] = []
    for override in overrides:
        if override.is_sweep_override():
            values(override)  # raises if there are none
            value = next(iter(override.sweep_string_iterator()))
            first.append(f"{override.get_key_element()}={value}")
        else:
            first.append(override.input_line)
    job: DictConfig = loader.load_sweep_config(config, first)
    with open_dict(job):
        job.hydra.job.num, job.hydra.job.id = 0, "0"
    return job


def _grid(config: DictConfig) -> list[Any]:
    """The overrides of a sweep: a study's, then the command line's, which take precedence."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    grid = [f"{key}={value}" for key, value in params.items()]
    loader = GlobalHydra.instance().config_loader()
    overrides = parse([*grid, *unresolved(config.hydra.overrides.task)], loader)
    return list({override.get_key_element(): override for override in overrides}.values())


def _job_count(config: DictConfig) -> int:
    """How many jobs Hydra's own sweeper makes of a sweep."""
    return math.prod(len(values(override)) for override in _grid(config))


@contextmanager
def _as_hydra_config(config: DictConfig) -> Iterator[None]:
    """Inside, ``${hydra:...}`` is resolved from this configuration, as in a running job."""
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(config)
        yield
    finally:
        holder.cfg = before
        OmegaConf.set_readonly(config.hydra, False)
