"""How errors are printed for a user of the command line."""

from __future__ import annotations

import logging
import sys

from flrc.core.progress import display
from flrc.errors import explained

log = logging.getLogger(__name__)


def print_error(error: BaseException | str) -> int:
    """Print an error to standard error; returns exit code 1."""
    display.clear()
    print(f"\nerror: {error}\n", file=sys.stderr, flush=True)  # noqa: T201
    return 1


def print_failure(error: Exception, summary: str) -> int:
    """Print an error, after its traceback unless the user can fix it; returns exit code 1."""
    problem = explained(error)
    if problem is None:
        log.error(summary, exc_info=error)
    return print_error(problem or error)
