"""How errors are printed for a user of the command line."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap

from flrc.core.progress import display
from flrc.errors import explained

log = logging.getLogger(__name__)

ALLOWED = "  allowed: "
"""How the line of a :class:`~flrc.errors.UserError` begins that lists what is allowed."""


def print_error(error: BaseException | str) -> int:
    """Print an error to standard error; returns exit code 1.

    On a terminal, a long list of what is allowed is broken between words.
    """
    display.clear()
    text = f"error: {error}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(_broken(line, width) for line in text.split("\n"))
    print(f"\n{text}\n", file=sys.stderr, flush=True)  # noqa: T201
    return 1


def _broken(line: str, width: int) -> str:
    """The line in several where it is too long; a fix stays one, so that it can be copied."""
    if not line.startswith(ALLOWED):
        return line
    return textwrap.fill(
        line,
        max(width, 2 * len(ALLOWED)),
        subsequent_indent=" " * len(ALLOWED),
        break_long_words=False,
        break_on_hyphens=False,
    )


def print_failure(error: Exception, summary: str) -> int:
    """Print an error, after its traceback unless the user can fix it; returns exit code 1."""
    problem = explained(error)
    if problem is None:
        log.error(summary, exc_info=error)
    return print_error(problem or error)
