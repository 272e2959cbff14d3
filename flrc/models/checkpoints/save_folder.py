"""The folder that a checkpoint is saved in, and how it replaces an older checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flrc.errors import UserError
from flrc.models.checkpoints import standalone_code
from flrc.models.checkpoints.manifest import FILE

MARKS = (FILE, standalone_code.NAME)
"""A folder with one of these files is a checkpoint, perhaps an incomplete one."""


def check_save_folder(folder: str | Path) -> Path:
    """The absolute folder, if a checkpoint may be written there; changes nothing.

    Raises:
        UserError: If it holds something other than a checkpoint, or is the current folder or one
            of its parents.
    """

    def refuse(reason: str) -> UserError:
        return UserError(
            f"a model cannot be saved there: {reason}",
            given=str(folder),
            allowed="a folder that does not exist, an empty one, or an older checkpoint",
            fix="name another folder",
        )

    given = Path(folder).expanduser()
    try:
        path, here = given.resolve(), Path.cwd().resolve()
        if given.is_symlink():
            raise refuse("it is a link")
        if path in (here, *here.parents):
            raise refuse("it is the current folder, or contains it")
        if path.is_dir():
            if any(path.iterdir()) and not _marked(path):
                raise refuse("the folder holds other files")
        elif path.exists():
            raise refuse("it is a file")
        for beside, ours in ((_unfinished(path), Path.is_dir), (_old(path), _marked)):
            if beside.is_symlink() or (beside.exists() and not ours(beside)):
                raise refuse(f"{beside.name} beside it is in the way")
    except (OSError, ValueError) as error:  # not a valid name of a folder
        raise refuse(str(error)) from error
    return path


@contextmanager
def replacing(folder: str | Path) -> Iterator[Path]:
    """An empty folder to write into; on success it replaces ``folder`` as a whole.

    At any time either the older checkpoint or the new one is complete, at ``folder`` or, after a
    crash between the two renames, beside it as ``.<name>.old``, which the next call restores.

    Raises:
        UserError: As :func:`check_save_folder`; or if nothing can be written there.
    """
    path = check_save_folder(folder)
    unfinished, old = _unfinished(path), _old(path)
    try:
        if old.exists():
            if path.exists():
                shutil.rmtree(old)
            else:
                old.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"a model cannot be saved there: {error.strerror}",
            given=str(folder),
            fix="name a folder with write permission",
        ) from error
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    try:
        unfinished.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _marked(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
