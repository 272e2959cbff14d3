"""Where a command keeps its notes: beside the records of its first job, as Hydra composes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flrc.config import Paths
from flrc.core.folders import check_writable
from flrc.errors import UserError
from flrc.sweeps.hydra_grammar import given_words, parse, quoted, values
from flrc.sweeps.job_log import Ledger

SWEEP_DIR = "hydra.sweep.dir"


class Notes(Callback):  # type: ignore[misc]
    """Begins the notes as soon as Hydra has composed the command; stands in ``conf/config.yaml``.

    Hydra makes a warning of an exception here, so errors are shown and end the process.
    """

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Of a command with one job."""
        with _ending():
            _begin(config)
            _check_folder("hydra.run.dir", config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Of a sweep; what Hydra writes of it goes to the same folder.

        ``config`` has the default where a value is swept, and Hydra would make that folder.
        """
        with _ending():
            folder = _begin(first_job(config))
            told = parse(given_words(config.hydra.overrides.hydra))
            if folder is not None and all(o.key_or_group != SWEEP_DIR for o in told):
                OmegaConf.update(config, SWEEP_DIR, str(folder))
                config.hydra.overrides.hydra.append(f"{SWEEP_DIR}={quoted(str(folder))}")
            _check_folder(SWEEP_DIR, config)


@contextmanager
def _ending() -> Iterator[None]:
    from hydra.errors import HydraException

    from flrc.sweeps.command_line import complain

    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        raise SystemExit(complain(error)) from error


def _begin(config: DictConfig) -> Path | None:
    """Begin the notes of a command with this first job; returns their folder.

    Nothing of a dry run in this process is kept.
    """
    ledger = Ledger.led()
    if ledger is None:  # a job's own process: the notes are its sweep's
        return None
    with _as_hydra_config(config):
        paths = OmegaConf.to_object(config.paths)
        assert isinstance(paths, Paths)
        runs = Path(paths.runs).expanduser().resolve()
        here = str(config.hydra.runtime.choices["hydra/launcher"]) == "basic"
        return ledger.begin(None if config.dry_run and here else runs)


def _check_folder(setting: str, config: DictConfig) -> None:
    """Hydra can make one of its folders; to one that is there it writes nothing."""
    with _as_hydra_config(config):
        folder = Path(OmegaConf.select(config, setting))
    if not folder.is_dir():
        check_writable(setting, folder)


def first_job(config: DictConfig) -> DictConfig:
    """The configuration of a sweep's first job.

    Args:
        config: The sweep's own, which holds no value of what is swept.

    Raises:
        UserError: If a sweep has no values, or they cannot be enumerated.
    """
    from hydra.core.global_hydra import GlobalHydra

    loader = GlobalHydra.instance().config_loader()
    with _as_hydra_config(config), suppress(OmegaConfBaseException):
        config.paths.runs  # noqa: B018  # Hydra hands what ``${now:...}`` gave to every job
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    grid = parse([f"{key}={value}" for key, value in params.items()], loader)
    words = parse(given_words(config.hydra.overrides.task), loader)
    first: dict[str, str] = {}
    enumerated = str(config.hydra.runtime.choices["hydra/sweeper"]) == "basic"
    for override in [*grid, *words]:  # as Hydra's sweeper: a later word of the same key wins
        key = override.get_key_element()
        if not override.is_sweep_override():
            first[key] = override.input_line
        elif enumerated or not override.is_interval_sweep():
            values(override)  # there are some
            first[key] = f"{key}={next(iter(override.sweep_string_iterator()))}"
    job: DictConfig = loader.load_sweep_config(config, list(first.values()))
    with open_dict(job):
        job.hydra.job.num, job.hydra.job.id = 0, "0"
    return job


@contextmanager
def _as_hydra_config(config: DictConfig) -> Iterator[None]:
    """While active, ``${hydra:...}`` is answered, as it is when the job runs."""
    from hydra.core.hydra_config import HydraConfig

    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(config)
        yield
    finally:
        holder.cfg = before
        OmegaConf.set_readonly(config.hydra, False)
