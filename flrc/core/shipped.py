"""Where the configuration and the studies' layouts are: in a checkout or in an installed package.

They stand at the top of the repository; the wheel holds copies of them inside the package.
"""

from __future__ import annotations

from pathlib import Path

from flrc.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]


def in_checkout() -> bool:
    """Whether the package runs from a checkout (also by an editable install), not from a wheel."""
    return not (PACKAGE / "conf").is_dir()


def conf_folder() -> Path:
    """The folder of the configuration.

    Raises:
        UserError: If it is missing.
    """
    folder = _shipped("conf")
    if not (folder / "config.yaml").is_file():
        raise UserError(
            "the configuration files are missing",
            given=str(folder),
            fix="pip install --force-reinstall --no-deps with the wheel, or with --editable and a "
            "checkout",
        )
    return folder


def experiments_folder() -> Path:
    """The folder of the studies' layouts; in a checkout, also of their records."""
    return _shipped("experiments")


def _shipped(name: str) -> Path:
    return (PACKAGE.parent if in_checkout() else PACKAGE) / name
