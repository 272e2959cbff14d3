"""Errors that users can fix: what was given, what is allowed, the nearest match, the fix.

Part of ``modeling_flrc.py``, where names of several modules share one namespace.
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input, found before any work; printed without a traceback.

    Programming errors raise built-in exceptions instead and keep their traceback.

    Args:
        problem: One clause that names the faulty setting, file or value.
        given: What was given, as the user wrote it.
        allowed: The values that are accepted, or a description of them.
        fix: The command or change that solves the problem.
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
            if match is not None and match not in (self.fix or ""):
                lines.append(f"  nearest: {match}")
        if self.fix is not None:
            lines.append(f"  fix:     {self.fix}")
        return "\n".join(lines)


def nearest(given: str, allowed: Iterable[str], similar: float = 0.5) -> str | None:
    """The allowed word that is most similar to the given one; None if none is close.

    Case, hyphens, underscores, spaces and leading zeros of numbers make no difference.

    Args:
        given: What was given.
        allowed: The words.
        similar: How similar a word must be, in (0, 1].
    """
    words = {word: _comparable(word) for word in allowed}
    wanted = _comparable(given)
    same = [word for word, comparable in words.items() if comparable == wanted]
    if same:
        return min(same, key=lambda word: (word.casefold() != given.casefold(), word))
    matches = difflib.get_close_matches(wanted, words.values(), n=1, cutoff=similar)
    return next((word for word, text in words.items() if text in matches), None)


def _comparable(word: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[-_ ]", "", word.casefold()))


def choose(setting: str, given: str, allowed: Iterable[str]) -> str:
    """Return ``given`` if it is allowed.

    Raises:
        UserError: If it is not; names the allowed values and the nearest one.
    """
    options = list(allowed)
    if given not in options:
        raise UserError(f"{setting} has no option {given!r}", given=given, allowed=options)
    return given


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PERMISSION_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""The operating system's error number in messages of safetensors, which raises no OSError."""


def explained(error: BaseException) -> UserError | None:
    """A UserError for an error that the user can fix, such as a full disk or denied permission.

    Args:
        error: Any exception.

    Returns:
        None for a programming error, which keeps its traceback.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error.__cause__, UserError):
        return error.__cause__
    match = RUST_ERROR.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(match[1]) if match else None
    if number in DISK_FULL:
        return UserError(
            "the disk is full",
            given=str(error),
            fix="free some space, or choose other folders with paths.runs and paths.cache; "
            "the same command computes only what is missing",
        )
    if number in PERMISSION_DENIED:
        return UserError(
            "permission denied for a file or folder",
            given=str(error),
            fix="change its permissions, or choose another folder: with paths.runs and "
            "paths.cache, with HF_HOME for downloads from the hub, with TMPDIR for temporary files",
        )
    return None


def is_mistake(error: BaseException) -> bool:
    """Whether the error is in what the user wrote, so that the same command fails again.

    A full disk or a denied permission is not: they are explained, and may be gone the next time.
    """
    return isinstance(error, UserError) or isinstance(error.__cause__, UserError)
