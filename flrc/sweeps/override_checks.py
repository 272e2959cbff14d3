"""Checks groups, options and keys of the overrides; a typo is answered with the nearest match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from omegaconf import FloatNode, ListConfig

from flrc.core.extras import LAUNCHERS, install_extras
from flrc.errors import UserError, nearest
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.known_keys import KnownKeys
from flrc.sweeps.malformed_words import shown
from flrc.sweeps.model_names import (
    GROUP,
    check_named_models,
    check_pages,
    named_models,
)
from flrc.sweeps.overrides import parse, values
from flrc.sweeps.study_models import check_models_of_study, register_models
from flrc.sweeps.unused_components import note_unused
from flrc.sweeps.value_checks import settings

NOT_SWEPT = ("experiment", "scale")
"""Groups that cannot be swept: they define the grid, which Hydra reads once, before the sweep."""

ADDED = re.compile(r"evaluation|data\.revisions\..*")
"""What ``+`` may add to; every other key has a value already."""
NUMBER = re.compile(r"\d+")
UNKNOWN = object()
"""In place of the values of an interval, which cannot be enumerated."""


def check_overrides(
    location: ConfigLocation, overrides: Sequence[str], multirun: bool | None = None
) -> None:
    """Raise UserError at the first wrong group, option, key or value, before Hydra composes.

    Hydra finds the same mistakes, but only job by job and without naming the nearest match.

    Args:
        location: Where the configuration is.
        overrides: The overrides.
        multirun: Whether the command has ``-m``; None if it cannot have it, as in Python.
    """
    parsed = parse(overrides, loader(location))
    check_pages(parsed)
    register_models(location, overrides)
    # Hydra alone knows the options in additional folders.
    if any(override.key_or_group == "hydra.searchpath" for override in parsed):
        return
    groups = _groups(location)
    groups[GROUP] = [*groups[GROUP], *named_models(parsed)]
    ours = [override for override in parsed if not override.is_hydra_override()]
    _check_repeated(ours)
    chosen: dict[str, list[str]] = {}
    for override in ours:
        group = override.key_or_group
        if group not in groups or override.is_delete() or isinstance(override.value(), dict):
            continue  # a dict sets keys
        chosen[group] = check_options(override, groups[group])
        if group in NOT_SWEPT and override.is_sweep_override():
            raise UserError(
                f"{group} cannot be swept: the grids of the studies would be lost",
                given=override.input_line,
                allowed="one value",
                fix=f"one command for each {group}",
            )
    for launcher in chosen.get("launcher", []):
        _check_launcher(launcher)
    known = KnownKeys(location, chosen, groups)
    for override in ours:
        _check_key(override, known)
    if not multirun and not any(override.key_or_group == "hydra.mode" for override in parsed):
        swept = [override for override in ours if override.is_sweep_override()]
        _check_single(swept, known, in_python=multirun is None)
    for override in ours:
        _check_value(override, known)
    check_named_models(ours)
    check_models_of_study(location, ours)
    note_unused(ours, chosen)


def _check_repeated(overrides: Sequence[Any]) -> None:
    first: dict[str, Any] = {}
    for override in overrides:
        earlier = first.setdefault(override.get_key_element(), override)
        if earlier is override:
            continue
        key, values = override.key_or_group, [_written(each) for each in (earlier, override)]
        raise UserError(
            f"{key} is given twice",
            given=f"{earlier.input_line} {override.input_line}",
            allowed="one value",
            fix=override.input_line
            if values[0] == values[1] or override.is_delete() or earlier.is_delete()
            else f"one of them, or -m {key}={','.join(values)}, which runs one job for each",
        )


def _written(override: Any) -> str:
    return str(override.input_line.partition("=")[2])


def _check_single(swept: Sequence[Any], known: KnownKeys, *, in_python: bool) -> None:
    """Raise UserError for several values in a command that runs one job."""
    if not swept or known.multirun():
        return
    override = swept[0]
    key, written = override.key_or_group, _written(override)
    if in_python:
        fix = "one call for each value"
    else:
        fix = f"-m {override.input_line}, which runs one job for each value"
        decimal = re.fullmatch(r"0,(\d+)", written)
        if decimal and isinstance(known.node(key), FloatNode):
            fix = f"{key}=0.{decimal[1]}"
    if key == "evaluation":
        fix = f"evaluation=[{written}], which evaluates all of them in one run"
    elif isinstance(known.node(key), ListConfig):
        fix = f"{key}=[{written}]"
    raise UserError(
        f"{key} has several values",
        given=override.input_line,
        allowed="one value" if in_python else "one value without -m",
        fix=fix,
    )


def _check_key(override: Any, known: KnownKeys) -> None:
    """Raise UserError unless the keys that an override sets exist and can be set like this."""
    key = override.key_or_group
    for name, _ in _settings(override, known):
        known.check(name, override)
    if override.is_delete() and key in known.groups and known.node(key) is None:
        return  # a group without keys of its own, such as experiment
    if override.is_delete() and not re.fullmatch(r"evaluation\.\w+", key):
        raise UserError(
            f"{key} cannot be removed: a run needs a value for every key",
            given=override.input_line,
            fix=f"{key}=VALUE",
        )
    if override.is_add() and not override.is_force_add() and not ADDED.fullmatch(key):
        raise UserError(
            f"{key} exists already",
            given=override.input_line,
            allowed="a setting without +",
            fix=override.input_line.lstrip("+"),
        )


def _check_value(override: Any, known: KnownKeys) -> None:
    """Raise UserError unless the keys that an override sets accept its values."""
    for name, value in _settings(override, known):
        if not override.is_delete() and value is not UNKNOWN:
            known.check_value(name, value, override)


def _settings(override: Any, known: KnownKeys) -> Iterator[tuple[str, Any]]:
    """The keys that an override sets, with each of their values, or UNKNOWN for an interval's."""
    key = override.key_or_group
    interval = override.is_sweep_override() and override.is_interval_sweep()
    for value in [UNKNOWN] if interval else values(override):
        if key not in known.groups or isinstance(value, dict):  # else it is an option
            yield from settings(key, value)


def _check_launcher(name: str) -> None:
    if name == "basic":
        return
    plugin = f"hydra-{name.partition('_')[0]}-launcher"
    try:
        distribution(plugin)
    except PackageNotFoundError as error:
        raise UserError(
            f"launcher={name} needs a package that is not installed: {plugin}",
            given=f"launcher={name}",
            fix=install_extras([LAUNCHERS]),
        ) from error


def _groups(location: ConfigLocation) -> dict[str, list[str]]:
    """Every group and its options, wherever Hydra finds them."""
    # The repository itself is asked: the loader would copy it, with all schemas, for each group.
    repository = loader(location).repository
    return {
        group: sorted(repository.get_group_options(group, ObjectType.CONFIG))
        for group in repository.get_group_options("", ObjectType.GROUP)
        if group not in ("hydra", "schema")
    }


def check_options(override: Any, options: list[str]) -> list[str]:
    """The options that an override chooses; UserError if one does not exist or is a list."""
    group = override.key_or_group
    entries = values(override)
    flat = [str(v) for entry in entries for v in (entry if isinstance(entry, list) else [entry])]
    if any(isinstance(entry, list) for entry in entries) and group != "evaluation":
        raise UserError(
            f"group {group} takes one option, not a list",
            given=override.input_line,
            allowed=options,
            fix=f"-m {group}={','.join(flat)} runs one job for each",
        )
    if not any(flat) and group != "evaluation":
        raise UserError(
            f"group {group} needs an option", given=override.input_line, allowed=options
        )
    if any(option and option not in options for option in flat):
        raise _unknown_option(override, flat, options)
    return [option for option in flat if option]


def _closest(given: str, options: list[str]) -> str | None:
    """The option that was meant; of those that differ only in a number (table01, table02) none."""
    match = nearest(given, options)
    if match is None or nearest(given, [match], 1.0) == match:  # spelled in another way only
        return match
    alike = [option for option in options if NUMBER.sub("", option) == NUMBER.sub("", given)]
    return None if len(alike) > 1 and match in alike else match


def _unknown_option(override: Any, given: list[str], options: list[str]) -> UserError:
    """The error for a group's options of which some do not exist, with those that were meant."""
    group = override.key_or_group
    meant = {
        option: f"./{option}"
        if group == GROUP and Path(option).exists()
        else _closest(option, options)
        for option in given
        if option and option not in options
    }
    wrong, close = next(iter(meant.items()))
    written = _written(override)
    for option, match in meant.items():
        written = written.replace(option, match or option)
    corrected = [meant.get(option) or option for option in given]
    several, there = "-m " if override.is_sweep_override() else "", ""
    if len(set(corrected)) < len(set(given)):  # a typo beside what it means: nothing to add
        corrected = list(dict.fromkeys(corrected))
        there = " It is there already:"
        several = "-m " * (len(corrected) > 1 and bool(several))
        written = (
            ",".join(corrected) if override.is_sweep_override() else f"[{','.join(corrected)}]"
        )
    return UserError(
        f"{group} has no option {wrong!r}",
        given=override.input_line,
        allowed=", ".join(sorted(options)),  # the nearest one is in the fix, or there is none
        fix=f"did you mean {close}?{there} {several}{shown(f'{group}={written}')}"
        if close
        else None,
    )
