"""Words of the command line, as Hydra reads them: its flags, its grammar, its search path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from flrc.errors import UserError


@dataclass(frozen=True)
class Place:
    """Where Hydra finds the configuration.

    Attributes:
        conf: Folder of the configuration.
        name: Of its main file (``--config-name``).
        more: A folder that comes first (``--config-dir``).
    """

    conf: str
    name: str = "config"
    more: str | None = None


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        flags: Hydra's flags and their values, in order.
        words: The overrides, in order.
        place: Where the configuration is.
        finding: The flags by which another process finds the same configuration.
        runs: Whether jobs are run; else Hydra answers, as it does ``--help``.
    """

    flags: list[str]
    words: list[str]
    place: Place
    finding: list[str]
    runs: bool

    @classmethod
    def of(cls, conf: str, arguments: Sequence[str]) -> Command:
        """The command line of these arguments; flags may stand anywhere among the words."""
        from hydra._internal.utils import get_args_parser

        found = get_args_parser().parse_intermixed_args(list(arguments))
        rest = list(found.overrides)
        flags = []
        for argument in arguments:
            if argument in rest:
                rest.remove(argument)
            else:
                flags.append(argument)
        answers = (found.help, found.hydra_help, found.cfg, found.info, found.shell_completion)
        place = Place(
            conf if found.config_path is None else str(Path(conf).parent / found.config_path),
            found.config_name or "config",
            None if found.config_dir is None else os.path.abspath(found.config_dir),
        )
        given = {
            "--config-path": found.config_path and place.conf,
            "--config-name": found.config_name,
            "--config-dir": place.more,
        }
        return cls(
            flags,
            list(found.overrides),
            place,
            [f"{flag}={value}" for flag, value in given.items() if value is not None],
            not any(answers) and found.experimental_rerun is None,
        )


def parse(words: Sequence[str], loader: Any = None) -> list[Any]:
    """Hydra's overrides.

    Args:
        words: Words of the command line without flags.
        loader: Hydra's configuration loader, which ``glob`` asks for the options of a group.

    Raises:
        UserError: On the first word that Hydra cannot read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        return list(OverridesParser.create(loader).parse_overrides(list(words)))
    except OverrideParseException as error:
        raise UserError(
            "the command line cannot be read",
            given=error.override,
            allowed="key=value, or key=value,value with -m",
            fix=None if error.override is None else _in_quotes(error.override),
        ) from error


@contextmanager
def made_of(words: Sequence[str]) -> Iterator[None]:
    """While a configuration is made of these words.

    Raises:
        UserError: If Hydra or OmegaConf cannot make it, or a component refuses its values.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        raise UserError(
            "these words make no configuration", given=" ".join(words), allowed=str(error)
        ) from error


def values(override: Any) -> list[Any]:
    """The values that a sweep visits, or the one value; what was quoted without its quotes.

    Raises:
        UserError: If a sweep visits none, or cannot be enumerated.
    """
    from hydra.errors import HydraException

    if not override.is_sweep_override():
        return [override.value()]
    if override.is_interval_sweep():
        raise UserError(
            "an interval has no values to go through",
            given=override.input_line,
            allowed="key=value,value or range(...), choice(...), glob(...)",
        )
    try:
        found = [_plain(value) for value in override.sweep_iterator()]
    except (HydraException, ValueError) as error:
        raise UserError(
            "the sweep cannot be read", given=override.input_line, allowed=str(error)
        ) from error
    if not found:
        raise UserError("the sweep has no values", given=override.input_line)
    return found


def quoted(value: str) -> str:
    """A text that Hydra reads as this value, whatever letters it has."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(value, Quote.single).with_quotes())


def given_words(overrides: Any) -> list[str]:
    """The words of a list of Hydra's configuration as they were given, interpolations as such."""
    from omegaconf import OmegaConf

    words = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def _plain(value: Any) -> Any:
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.text if isinstance(value, QuotedString) else value


def _in_quotes(word: str) -> str | None:
    """The word with its value in quotes, which Hydra wants around letters it has no rule for."""
    key, equals, value = word.partition("=")
    if not equals or not value or any(sign in value for sign in "'\"\\"):
        return None
    return f"in quotes that the shell leaves: '{key}=\"{value}\"'"


@lru_cache(maxsize=16)
def loader(place: Place) -> Any:
    """Hydra's configuration loader over a place.

    Raises:
        UserError: If the folder of ``--config-dir`` is not there.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.utils import setup_globals
    from hydra.version import setbase

    setbase("1.3")
    setup_globals()
    path = create_config_search_path(place.conf)
    if place.more is not None:
        if not Path(place.more).is_dir():
            raise UserError("there is no such folder", given=f"--config-dir {place.more}")
        path.prepend("command-line", f"file://{place.more}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)
