"""The option by which the calibration of a run is named on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def calibration_option(calibration: Mapping[str, Any]) -> str:
    """``wikitext2``, ``c4``, ``mixed`` ...: options of one component are named by their data sets.

    ``calibration`` is that part of a configuration; of a component other than ``text``, the option
    has its name.
    """
    name, datasets = str(calibration["name"]), calibration.get("datasets", ())
    return "_".join(datasets) if name == "text" else name
