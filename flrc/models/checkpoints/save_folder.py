"""Where a checkpoint may be written, and how it takes the place of an older one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flrc.errors import UserError
from flrc.models.checkpoints import standalone_code
from flrc.models.checkpoints.manifest import FILE

MARKS = (FILE, standalone_code.NAME)
"""A folder that holds one of these files is a checkpoint, or what is left of one."""


def place(folder: str | Path) -> Path:
    """The folder, absolute, if a checkpoint may be written there; changes nothing.

    Raises:
        UserError: If something lies there that is no checkpoint, or that work goes on in.
    """

    def refuse(reason: str) -> UserError:
        return UserError(
            f"a model is not saved there: {reason}",
            given=str(folder),
            allowed="a folder that does not exist, an empty one, or an older checkpoint",
            fix="name another folder",
        )

    given = Path(folder).expanduser()
    try:
        found, here = given.resolve(), Path.cwd().resolve()
        if given.is_symlink():
            raise refuse("it is a link")
        if found in (here, *here.parents):
            raise refuse("it is the current folder, or holds it")
        if found.is_dir():
            if any(found.iterdir()) and not _marked(found):
                raise refuse("the folder holds other things")
        elif found.exists():
            raise refuse("it is a file")
        for beside, ours in ((_unfinished(found), Path.is_dir), (_old(found), _marked)):
            if beside.is_symlink() or (beside.exists() and not ours(beside)):
                raise refuse(f"{beside.name} beside it is in the way")
    except (OSError, ValueError) as error:  # a name that no folder can have
        raise refuse(str(error)) from error
    return found


@contextmanager
def replacing(folder: str | Path) -> Iterator[Path]:
    """An empty folder to write into; what it holds then appears at ``folder``, whole.

    Whatever happens, the older checkpoint or the new one is there: at ``folder`` or, after a crash
    between two renames, beside it as ``.<name>.old``, from where the next call brings it back.

    Raises:
        UserError: As :func:`place`; or if nothing can be written there.
    """
    found = place(folder)
    unfinished, old = _unfinished(found), _old(found)
    try:
        if old.exists():
            if found.exists():
                shutil.rmtree(old)
            else:
                old.rename(found)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"a model cannot be saved there: {error.strerror}",
            given=str(folder),
            fix="name a folder that can be written to",
        ) from error
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if found.exists():
        found.rename(old)
    try:
        unfinished.rename(found)
    except OSError:
        if old.exists():
            old.rename(found)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _marked(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
