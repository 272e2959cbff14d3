"""Which formats are written: plots need packages that flrc works without."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from flrc.core.extras import check_installed, install_command, not_installed
from flrc.errors import choose

log = logging.getLogger(__name__)

PLOT = "plot"
NEEDS = ("matplotlib", "pandas")
"""Optional modules that draw plots."""
ALL_PICTURES = ("png", "pdf", "svg")
PICTURES = ("png", "pdf")
"""A plot's formats unless others are asked for: to look at, and for LaTeX."""


def formats_to_write(asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The formats that were asked for, all of ``known`` if none were.

    Unless asked for, plots are left out where they cannot be drawn; a warning says so.

    Raises:
        UserError: If a format does not exist, or a plot was asked for and its packages are
            missing.
    """
    if asked:
        if PLOT in asked:
            check_installed("a plot", NEEDS)
        return [choose("format", name, known) for name in asked]
    if missing := not_installed(NEEDS):
        log.warning(
            "no plots, because %s is not installed: %s",
            " and ".join(missing),
            install_command(missing),
        )
        return [name for name in known if name != PLOT]
    return list(known)
