"""Models that a study names in its defaults: ``override /model: owner/name``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.default_element import ConfigDefault, GroupDefault

from flrc.errors import UserError
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.model_names import (
    GROUP,
    check_named_models,
    check_pages,
    register_named_models,
)
from flrc.sweeps.overrides import parse, quoted

STUDY = "experiment"
"""The group of the studies."""


def register_models(location: ConfigLocation, overrides: Sequence[str]) -> None:
    """Make every model that a command or its study names an option of the group ``model``.

    Raises:
        UserError: If Hydra cannot parse an override.
    """
    parsed = parse(overrides)
    register_named_models(parsed)
    for _, name in _named(location, parsed):
        register_named_models(_override(name))


def check_models_of_study(location: ConfigLocation, overrides: Sequence[Any]) -> None:
    """Raise UserError if nothing is at the path of the model that a study names.

    Args:
        location: Where the configuration is.
        overrides: Hydra's overrides; one of the model takes the place of the study's.
    """
    if any(override.key_or_group == GROUP for override in overrides):
        return
    for study, name in [*_named(location, overrides)][:1]:  # the others are overridden by it
        try:
            check_pages(_override(name))
            check_named_models(_override(name))
        except UserError as error:
            raise UserError(
                error.problem,
                given=f"{GROUP}: {name} in {STUDY}={study}",
                allowed=error.allowed,
                fix=error.fix,
            ) from error


def _override(name: str) -> list[Any]:
    """As on the command line; none for an interpolation, which only Hydra resolves."""
    return [] if "${" in name else parse([f"{GROUP}={quoted(name)}"])


def _named(location: ConfigLocation, overrides: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Each chosen study and a value of ``model`` in its defaults; what comes first takes effect."""
    for override in overrides:
        study = override.value() if override.key_or_group == STUDY else None
        if isinstance(study, str):
            repository = loader(location).repository
            yield from ((study, name) for name in _in_defaults(repository, f"{STUDY}/{study}"))


def _in_defaults(repository: Any, path: str) -> Iterator[str]:
    """The values of ``model`` in the defaults of a configuration, then in those of its bases."""
    loaded = repository.load_config(path)
    defaults = [] if loaded is None else loaded.defaults_list or []
    for each in defaults:
        if isinstance(each, GroupDefault) and each.override and each.group == f"/{GROUP}":
            yield str(each.value)
    folder = path.rpartition("/")[0]
    for each in defaults:
        if isinstance(each, ConfigDefault) and each.path not in (None, "_self_"):
            base = each.path
        elif isinstance(each, GroupDefault) and not each.override and isinstance(each.value, str):
            base = f"{each.group}/{each.value}"
        else:
            continue
        base = base[1:] if base.startswith("/") else f"{folder}/{base}"
        if base.startswith(f"{STUDY}/"):
            yield from _in_defaults(repository, base)
