"""Checks the configurations of all jobs of a sweep before the first of them runs."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

from flrc.errors import UserError
from flrc.sweeps.grid import as_hydra_config, grid, jobs
from flrc.sweeps.overrides import composing


def check_jobs(config: DictConfig) -> None:
    """Raise UserError if a job's configuration is invalid, so that no job runs in vain.

    Model and data are not looked for: each job does that, and only its own are missing then.

    Args:
        config: As Hydra composes it for a sweep, in which every swept key has its default.
    """
    swept = [override.is_sweep_override() for override in grid(config)]
    errors: list[tuple[int, list[str], UserError]] = []
    count = 0
    for words, job in jobs(config):
        count += 1
        try:
            with composing(words), as_hydra_config(job):
                _validate(job)
        except UserError as error:
            errors.append((count, words, error))
    if not errors:
        return
    number, words, first = errors[0]
    if len(errors) == count:
        raise first
    values = " ".join(word for word, each in zip(words, swept, strict=True) if each)
    raise UserError(
        f"{first.problem}; in job {number} of {count}: {values}",
        given=first.given,
        allowed=first.allowed,
        fix=first.fix,
    ) from first


def _validate(job: DictConfig) -> None:
    """Make the objects of a configuration, which check themselves."""
    run = job.copy()
    with open_dict(run):
        run.pop("hydra")
    OmegaConf.to_object(run)
