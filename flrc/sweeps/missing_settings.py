"""Settings that only some jobs of a sweep have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig

from flrc.errors import UserError
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.grid import Job, chosen_jobs, grid
from flrc.sweeps.malformed_words import shown
from flrc.sweeps.overrides import parse
from flrc.sweeps.value_checks import node_of, settings

SHOWN = 5
"""How many of the jobs that lack a setting a message names."""


def check_settings_exist(config: DictConfig) -> None:
    """Raise UserError if a setting of a sweep does not exist in the options of each of its jobs.

    Args:
        config: As Hydra composes it for a sweep.
    """
    overrides, jobs = grid(config), list(chosen_jobs(config))
    # Jobs share what their options compose; every job has the same keys with other values.
    known = {
        (id(job.options), key): node_of(job.options, key) is not None
        for job in {id(job.options): job for job in jobs}.values()
        for override in overrides
        for key in _set_by(override)
    }
    for override in overrides:
        for key in _set_by(override):
            has = [known[id(job.options), key] for job in jobs]
            if not all(has):
                raise _missing(key, override, overrides, jobs, has)


def set_by_each_job(location: ConfigLocation, overrides: Sequence[str]) -> list[str]:
    """The overrides of a sweep, of which those that need an option of its jobs are set by each job.

    Hydra composes a sweep without the options that it visits, and refuses settings that do not
    exist then; ``key=choice(value)`` is set when a job is composed.
    """
    parsed = parse(overrides, loader(location))
    swept = [override for override in parsed if override.is_sweep_override()]
    words = list(overrides)
    candidates = [
        (place, override)
        for place, override in enumerate(parsed)
        if override not in swept and _set_by(override) and not override.is_delete()
    ]
    repository = loader(location).repository
    if not candidates or not any(repository.group_exists(each.key_or_group) for each in swept):
        return words
    chosen = [
        word
        for word, override in zip(words, parsed, strict=True)
        if override not in swept and not _set_by(override)
    ]
    before = loader(location).load_configuration(location.name, chosen, RunMode.MULTIRUN)
    for place, override in candidates:
        value = words[place].partition("=")[2]
        if value and any(node_of(before, key) is None for key in _set_by(override)):
            words[place] = f"{override.get_key_element()}=choice({value})"
    return words


def _set_by(override: Any) -> list[str]:
    """The keys that an override sets and that must exist; none for the options of a group."""
    key = override.key_or_group
    added = override.is_add() or override.is_force_add()
    if added or override.is_hydra_override() or key.startswith("data.revisions."):
        return []
    value = None if override.is_sweep_override() else override.value()
    if isinstance(value, dict):
        return [name for name, _ in settings(key, value)]
    return [key] if "." in key else []


def _missing(
    key: str, override: Any, overrides: Sequence[Any], jobs: Sequence[Job], has: Sequence[bool]
) -> UserError:
    visited = [
        list(dict.fromkeys(words)) for words in zip(*(job.words for job in jobs), strict=True)
    ]
    swept = [place for place, words in enumerate(visited) if len(words) > 1]
    at = list(overrides).index(override)
    given = override.input_line if at in swept else visited[at][0]  # as typed, without choice(...)
    lacking = [
        f"job {number} lacks it: {' '.join(job.words[place] for place in swept)}"
        for number, (job, there) in enumerate(zip(jobs, has, strict=True), 1)
        if not there
    ]
    more = [f"and {len(lacking) - SHOWN} more"] * (len(lacking) > SHOWN)
    fix = f"leave {key} out, or visit only options that have it"
    for place in swept:
        with_it, without = (
            list(dict.fromkeys(
                job.words[place] for job, there in zip(jobs, has, strict=True) if there is wanted
            ))
            for wanted in (True, False)
        )  # fmt: skip
        if with_it and not set(with_it) & set(without):
            others = len(swept) > 1
            fix = (
                f"{_joined(with_it, others)} {shown(given)} in one command, "
                f"{_joined(without, others)} in another"
            )
            break
    return UserError(
        f"{key} does not exist in {len(lacking)} of {len(jobs)} jobs",
        given=given,
        allowed="; ".join(["settings that every job has", *lacking[:SHOWN], *more]),
        fix=fix,
    )


def _joined(words: Sequence[str], others: bool) -> str:
    """``-m key=a,b`` from ``key=a`` and ``key=b``; a single word needs ``-m`` only for others."""
    key = words[0].partition("=")[0]
    values = ",".join(word.partition("=")[2] for word in words)
    return f"{'-m ' if others or len(words) > 1 else ''}{shown(f'{key}={values}')}"
