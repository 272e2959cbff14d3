"""Overrides of the configuration (``rate=0.2,0.3``), read with Hydra's own grammar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flrc.errors import UserError
from flrc.sweeps.malformed_words import unread_setting


def parse(overrides: Sequence[str], loader: Any = None) -> list[Any]:
    """Hydra's ``Override`` objects; with Hydra's loader, ``glob`` finds the options of a group.

    Raises:
        UserError: At the first override that Hydra cannot parse.
    """
    parser = OverridesParser.create(loader)

    def readable(word: str) -> bool:
        try:
            parser.parse_overrides([word])
        except OverrideParseException:
            return False
        return True

    words = list(overrides)
    try:
        return list(parser.parse_overrides(words))
    except OverrideParseException as error:
        raise unread_setting(words, words.index(error.override), readable) from error


@contextmanager
def composing(overrides: Sequence[str]) -> Iterator[None]:
    """Inside, errors of Hydra and OmegaConf become a UserError that names the overrides."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(
            "no configuration can be composed from these overrides",
            given=" ".join(overrides),
            allowed=str(error),
        ) from error


def values(override: Any) -> list[Any]:
    """The values that a sweep visits, or the single value; without the quotes of quoted values.

    Raises:
        UserError: If a sweep has no values, or they cannot be enumerated.
    """
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_interval_sweep():
        raise UserError(
            "an interval cannot be enumerated",
            given=override.input_line,
            allowed="key=value,value or range(...), choice(...), glob(...)",
        )
    try:
        visited = [_unquoted(value) for value in override.sweep_iterator()]
    except (HydraException, ValueError) as error:
        raise UserError(
            "the sweep cannot be parsed", given=override.input_line, allowed=str(error)
        ) from error
    if not visited:
        raise UserError("the sweep has no values", given=override.input_line)
    return visited


def quoted(value: str) -> str:
    """The value in quotes, so that Hydra accepts any character in it."""
    return str(QuotedString(value, Quote.single).with_quotes())


def unresolved(overrides: Any) -> list[str]:
    """The overrides in a list of Hydra's configuration as given, interpolations not resolved."""
    listed = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(listed, list)
    return [str(override) for override in listed]


def _unquoted(value: Any) -> Any:
    if isinstance(value, list):
        return [_unquoted(element) for element in value]
    return value.text if isinstance(value, QuotedString) else value
