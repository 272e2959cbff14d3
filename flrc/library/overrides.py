"""Checks the overrides of ``flrc.compress`` against its arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.sweeps.overrides import parse

ARGUMENTS = ("method", "rate", "seed")
"""Keys that have an argument of their own."""
COMMAND_LINE = {
    "hydra": "one run has no launcher and no sweep",
    "launcher": "one run has no launcher",
    "workers": "one run has no workers",
    "dry_run": "flrc.compress returns a model, and a dry run makes none",
    "experiment": f"a study is many runs; {as_called()} experiment=... runs them",
    "model.save": "the model is returned; flrc.save(compressed, folder) writes it",
}
"""Keys that only the command line supports, and why."""
IN_MEMORY = {
    "model": "the model is given",
    "dtype": "the model has one; model.to(torch.bfloat16) changes it",
    "device": "the model is on one; model.to(device) moves it",
}
"""Keys that a model in memory determines."""
OF_ANY_MODEL = ("model.partial",)
"""Keys below ``model`` that a model in memory does not determine."""


def check_contradictions(overrides: Sequence[str], *, by_name: bool, calibrated: bool) -> None:
    """Raise UserError for the first override that repeats or contradicts an argument.

    Args:
        overrides: As on the command line.
        by_name: Whether the model is given by name.
        calibrated: Whether calibration sequences are given.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise UserError(
            "overrides must be a list",
            given=repr(overrides)[:100],
            allowed='a list of strings, such as ["allocator=uniform", "paths.runs=DIR"]',
        )
    for text in overrides:
        if not isinstance(text, str):
            raise UserError(
                "an override must be a string", given=repr(text)[:100], allowed="KEY=VALUE"
            )
    fixed = {key: f"it is an argument, {key}=..." for key in ARGUMENTS} | COMMAND_LINE
    fixed |= {} if by_name else IN_MEMORY
    fixed |= {"calibration": "calibration sequences are given"} if calibrated else {}
    parsed = parse(overrides)
    for override in parsed:
        key, text = override.key_or_group, override.input_line
        if key.startswith("evaluation.") and not evaluates(parsed):
            raise UserError(
                "nothing is evaluated unless the overrides name evaluations",
                given=text,
                fix=f'add "evaluation=[{key.split(".")[1]}]" to the overrides',
            )
        if key == "model" and by_name:
            raise UserError("model cannot be overridden: it is the first argument", given=text)
        if key in OF_ANY_MODEL:
            continue
        for part in (key, re.split("[./]", key)[0]):
            if part in fixed:
                raise UserError(f"{part} cannot be overridden here: {fixed[part]}", given=text)


def evaluates(overrides: Sequence[Any]) -> bool:
    """Whether one of Hydra's overrides names evaluations."""
    return any(o.key_or_group == "evaluation" and not o.is_delete() for o in overrides)
