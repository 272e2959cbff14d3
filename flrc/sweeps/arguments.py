"""The command line's flags and overrides, and where they say that the configuration is."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentError, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.utils import setup_globals
from hydra.version import setbase

from flrc.errors import UserError
from flrc.sweeps.malformed_words import check_flags


@dataclass(frozen=True)
class ConfigLocation:
    """``--config-path``, ``--config-name`` and ``--config-dir``, which takes precedence."""

    folder: str
    name: str = "config"
    extra_folder: str | None = None


@dataclass(frozen=True)
class Command:
    """A parsed command line.

    Attributes:
        flags: Hydra's flags and their values, in order.
        overrides: The overrides, in order.
        location: Where the configuration is.
        location_flags: The flags with which another process finds the same configuration.
        asks_help: Whether the command asks for help, ``--help``.
        runs: Whether the command runs jobs; otherwise Hydra answers it (``--cfg``), or the help.
        multirun: Whether it asks for a job for every combination of values (``-m``).
    """

    flags: list[str]
    overrides: list[str]
    location: ConfigLocation
    location_flags: list[str]
    asks_help: bool
    runs: bool
    multirun: bool

    @classmethod
    def of(cls, conf: str, arguments: Sequence[str]) -> Command:
        """Parse arguments, which may mix flags and overrides in any order.

        Raises:
            UserError: If a flag does not exist or lacks its value.
        """
        parsed = _parsed(list(arguments))
        rest = list(parsed.overrides)
        flags = []
        for argument in arguments:
            if argument in rest:
                rest.remove(argument)
            else:
                flags.append(argument)
        questions = (parsed.help, parsed.hydra_help, parsed.cfg, parsed.info)
        location = ConfigLocation(
            conf if parsed.config_path is None else str(Path(conf).parent / parsed.config_path),
            parsed.config_name or "config",
            None if parsed.config_dir is None else os.path.abspath(parsed.config_dir),
        )
        given = {
            "--config-path": parsed.config_path and location.folder,
            "--config-name": parsed.config_name,
            "--config-dir": location.extra_folder,
        }
        return cls(
            flags,
            list(parsed.overrides),
            location,
            [f"{flag}={value}" for flag, value in given.items() if value is not None],
            bool(parsed.help),
            not any((*questions, parsed.shell_completion)) and parsed.experimental_rerun is None,
            bool(parsed.multirun),
        )


def _parsed(arguments: list[str]) -> Namespace:
    """The arguments as Hydra reads them."""
    parser = get_args_parser()
    check_flags(parser, arguments)
    parser.exit_on_error = False
    try:
        parsed: Namespace = parser.parse_intermixed_args(arguments)
    except ArgumentError as error:
        raise UserError(
            "the flags cannot be parsed", given=shlex.join(arguments), allowed=str(error)
        ) from error
    return parsed


@lru_cache(maxsize=16)
def loader(location: ConfigLocation) -> Any:
    """Hydra's loader of the configuration; raises UserError if there is no ``--config-dir``."""
    setbase("1.3")
    setup_globals()
    path = create_config_search_path(location.folder)
    extra = location.extra_folder
    if extra is not None:
        if not Path(extra).is_dir():
            raise UserError("the folder does not exist", given=f"--config-dir {extra}")
        path.prepend("command-line", f"file://{extra}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)
