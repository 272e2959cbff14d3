"""Errors a user can act on: what was given, what is allowed, the nearest match, the fix."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave, found before work begins; printed without a traceback.

    Programming errors raise the built-in exceptions instead and keep their traceback.

    Args:
        problem: One sentence that names the setting, file or value at fault.
        given: What was given, as the user wrote it.
        allowed: The values that would have been accepted, or a sentence about them.
        fix: The command or change that solves it.
    """

    def __init__(
        self,
        problem: str,
        *,
        given: object = None,
        allowed: Iterable[str] | str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem = problem
        self.given = given
        self.allowed = allowed if isinstance(allowed, str | None) else sorted(allowed)
        self.fix = fix
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [self.problem]
        if self.given is not None:
            lines.append(f"  given:   {self.given}")
        if isinstance(self.allowed, str):
            lines.append(f"  allowed: {self.allowed}")
        elif self.allowed is not None:
            lines.append(f"  allowed: {', '.join(self.allowed)}")
            match = nearest(str(self.given), self.allowed)
            if match is not None:
                lines.append(f"  nearest: {match}")
        if self.fix is not None:
            lines.append(f"  fix:     {self.fix}")
        return "\n".join(lines)


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like the given one, or None when nothing is close."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def choose(setting: str, given: str, allowed: Iterable[str]) -> str:
    """Return ``given`` if it is allowed.

    Raises:
        UserError: If it is not; names the allowed words and the nearest one.
    """
    options = list(allowed)
    if given not in options:
        raise UserError(f"{setting} has no option {given!r}", given=given, allowed=options)
    return given


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which raises no OSError, says which error of the system it met."""


def explained(error: BaseException) -> UserError | None:
    """The error as one that a user can act on: also a full disk, and a folder that is closed to us.

    Args:
        error: Whatever was raised.

    Returns:
        None for a programming error, which keeps its traceback.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error.__cause__, UserError):
        return error.__cause__
    said = RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
    if number in FULL:
        return UserError(
            "the disk is full",
            given=str(error),
            fix="free some space, or name folders elsewhere with paths.runs and paths.cache; "
            "the same command computes only what is missing",
        )
    if number in CLOSED:
        return UserError(
            "a file or folder is closed to this user",
            given=str(error),
            fix="change its rights, or name folders elsewhere: with paths.runs and paths.cache, "
            "with HF_HOME for what comes from the hub, with TMPDIR for temporary files",
        )
    return None
