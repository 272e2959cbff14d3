"""``python -m flrc.export runs/<model>/<run> FOLDER`` writes the equivalent dense model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from flrc.core.commands import as_called, description
from flrc.core.error_output import print_error
from flrc.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Write the dense model that equals a compressed one; returns 1 after a user error, else 0."""
    parser = argparse.ArgumentParser(
        prog=as_called("export"), description=description(__doc__, "export")
    )
    parser.add_argument(
        "path", help="the run's id or the start of it, its folder, or a checkpoint's folder"
    )
    parser.add_argument("folder", type=Path, help="output folder; must not exist, or be empty")
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: runs)")
    options = parser.parse_args(arguments)
    try:
        check_target(options.folder)
        from flrc.library.compressed_model import loaded_of
        from flrc.library.generation import load
        from flrc.models.checkpoints.dense_export import export

        export(loaded_of(load(options.path, "cpu", runs=options.runs)), options.folder)
    except UserError as error:
        return print_error(error)
    print(f"written: {options.folder}")  # noqa: T201
    return 0


def check_target(folder: Path) -> None:
    """Raise UserError unless the folder can be created, or is empty."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    problem = None
    if existing == folder and folder.is_dir() and any(folder.iterdir()):
        problem = "the folder is not empty"
    elif not existing.is_dir():
        problem = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK):
        problem = f"permission denied: {existing}"
    if problem is not None:
        allowed = "a folder that does not exist, or an empty one"
        raise UserError(problem, given=str(folder), allowed=allowed)


if __name__ == "__main__":
    sys.exit(main())
