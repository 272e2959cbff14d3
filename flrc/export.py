"""``python -m flrc.export runs/<model>/<run> FOLDER``: a dense model that loads anywhere."""

from __future__ import annotations

import argparse
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
        if given.folder.exists() and any(given.folder.iterdir()):
            raise UserError(
                "there is something in that folder already",
                given=str(given.folder),
                allowed="a folder that does not exist, or an empty one",
            )
        from flrc.generation import load
        from flrc.models.densify import export

        export(load(given.path, "cpu"), given.folder)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(f"written: {given.folder}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
