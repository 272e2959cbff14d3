"""``python -m flrc.export runs/<model>/<run> FOLDER``: a dense model that loads anywhere."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from flrc.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Write the plain Hugging Face model that computes what a compressed one does.

    Returns:
        0, or 1 after a user's mistake.
    """
    parser = argparse.ArgumentParser(prog="python -m flrc.export", description=__doc__)
    parser.add_argument("path", help="folder of a run that was made with model.save=true")
    parser.add_argument("folder", type=Path, help="where to; must not exist, or be empty")
    given = parser.parse_args(arguments)
    try:
        check_target(given.folder)
        from flrc.library.generation import load
        from flrc.models.checkpoints.dense_export import export

        export(load(given.path, "cpu"), given.folder)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(f"written: {given.folder}")  # noqa: T201
    return 0


def check_target(folder: Path) -> None:
    """Nothing is there yet, and a folder can be made; asked before anything is loaded.

    Raises:
        UserError: If that is not so.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    problem = None
    if there == folder and folder.is_dir() and any(folder.iterdir()):
        problem = "there is something in that folder already"
    elif not there.is_dir():
        problem = f"{there} is no folder"
    elif not os.access(there, os.W_OK):
        problem = f"{there} cannot be written to"
    if problem is not None:
        raise UserError(
            problem, given=str(folder), allowed="a folder that does not exist, or an empty one"
        )


if __name__ == "__main__":
    sys.exit(main())
