"""The jobs of a sweep, composed before Hydra starts the first of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from flrc.sweeps.overrides import parse, unresolved, values


def grid(config: DictConfig) -> list[Any]:
    """The overrides of a sweep: a study's, then the command line's, which take precedence.

    Args:
        config: As Hydra composes it for a sweep, in which every swept key has its default.
    """
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    overrides = [f"{key}={value}" for key, value in params.items()]
    loader = GlobalHydra.instance().config_loader()
    parsed = parse([*overrides, *unresolved(config.hydra.overrides.task)], loader)
    return list({override.get_key_element(): override for override in parsed}.values())


def first_job(config: DictConfig) -> DictConfig:
    """The configuration of a sweep's first job.

    Raises:
        UserError: If a sweep has no values, or they cannot be enumerated.
    """
    loader = GlobalHydra.instance().config_loader()
    with as_hydra_config(config), suppress(OmegaConfBaseException):
        config.paths.runs  # noqa: B018  # resolves ``${now:...}``, which Hydra caches for all jobs
    overrides = grid(config)
    if not is_enumerated(config):  # it may take intervals
        overrides = [override for override in overrides if not override.is_interval_sweep()]
    job: DictConfig = loader.load_sweep_config(config, [_words(each)[0] for each in overrides])
    return _numbered(job, 0)


def is_enumerated(config: DictConfig) -> bool:
    """Whether Hydra's own sweeper visits every combination; others choose as they go."""
    return str(config.hydra.runtime.choices["hydra/sweeper"]) == "basic"


def job_count(config: DictConfig) -> int:
    """How many jobs Hydra's own sweeper makes of a sweep."""
    return math.prod(len(values(override)) for override in grid(config))


@dataclass(frozen=True)
class Job:
    """A job of a sweep, before its settings are set.

    Attributes:
        words: All of its overrides.
        settings: Those that set keys; the others choose options.
        options: The configuration with the chosen options; jobs share it.
    """

    words: list[str]
    settings: list[str]
    options: DictConfig


def chosen_jobs(config: DictConfig) -> Iterator[Job]:
    """Every job of a sweep, in the order in which they run.

    Composing takes a quarter of a second, setting values almost nothing, so what Hydra composes for
    a combination of options is used for all jobs that choose it.
    """
    loader = GlobalHydra.instance().config_loader()
    overrides = grid(config)
    chooses = [
        not isinstance(each.value(), dict) and loader.repository.group_exists(each.key_or_group)
        for each in overrides
    ]
    composed: dict[tuple[str, ...], DictConfig] = {}
    for words in product(*map(_words, overrides)):
        options = tuple(word for word, option in zip(words, chooses, strict=True) if option)
        if options not in composed:
            composed[options] = loader.load_sweep_config(config, list(options))
        settings = [word for word, option in zip(words, chooses, strict=True) if not option]
        yield Job(list(words), settings, composed[options])


def jobs(config: DictConfig) -> Iterator[tuple[list[str], DictConfig]]:
    """The overrides and the configuration of every job, in the order in which they run."""
    for number, chosen in enumerate(chosen_jobs(config)):
        job = _numbered(copy.deepcopy(chosen.options), number)
        ConfigLoaderImpl._apply_overrides_to_config(parse(chosen.settings), job)
        yield chosen.words, job


@contextmanager
def as_hydra_config(config: DictConfig) -> Iterator[None]:
    """Inside, ``${hydra:...}`` is resolved from this configuration, as in a running job."""
    holder = HydraConfig.instance()
    before = holder.cfg
    try:
        holder.set_config(config)
        yield
    finally:
        holder.cfg = before
        OmegaConf.set_readonly(config.hydra, False)


def _words(override: Any) -> list[str]:
    """The override of each value that a sweep visits; raises UserError if there are none."""
    if not override.is_sweep_override():
        return [override.input_line]
    values(override)  # raises if there are none
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _numbered(job: DictConfig, number: int) -> DictConfig:
    with open_dict(job):
        job.hydra.job.num, job.hydra.job.id = number, str(number)
    return job
