"""The optional packages, and which extra of flrc installs each."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from flrc.errors import UserError

EXTRAS = {
    "bert_score": "evaluation",
    "bitsandbytes": "healing",
    "datasets": "evaluation",
    "evaluate": "evaluation",
    "lm_eval": "evaluation",
    "matplotlib": "report",
    "optuna": "search",
    "pandas": "report",
    "rouge_score": "evaluation",
    "wandb": "wandb",
}
"""Module -> extra, as in ``pyproject.toml``. No module of flrc imports one of these at its head,
unless only code that has checked for it imports that module."""


LAUNCHERS = "sweeps"
"""The extra of Hydra's plugins for launchers: distributions, not modules that flrc imports."""


def not_installed(modules: Iterable[str]) -> list[str]:
    """Those of these optional modules that cannot be imported; imports none of them."""
    assert (unknown := set(modules) - EXTRAS.keys()) == set(), unknown
    return [module for module in modules if find_spec(module) is None]


def install_command(modules: Iterable[str]) -> str:
    """The command that installs these optional modules."""
    return install_extras({EXTRAS[module] for module in modules})


def install_extras(extras: Iterable[str]) -> str:
    """The command that installs these extras."""
    return f"pip install 'flrc[{','.join(sorted(extras))}]'"


def check_installed(setting: str, modules: Iterable[str]) -> None:
    """Raise UserError, with the command that installs them, unless all of these modules are there.

    Args:
        setting: What needs them, as the user writes it: ``evaluation=[zeroshot]``.
        modules: Some of ``EXTRAS``.
    """
    if missing := not_installed(modules := tuple(modules)):
        raise UserError(
            f"{setting} needs packages that are not installed: {', '.join(missing)}",
            given=setting,
            fix=install_command(missing),
        )
