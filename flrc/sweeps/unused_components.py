"""Components that a command chooses for a model in which nothing is compressed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from flrc.results.records.record import METHOD_SLOTS
from flrc.sweeps.overrides import values

log = logging.getLogger(__name__)

DENSE = "dense"
OF_COMPRESSION = tuple(slot for slot in METHOD_SLOTS if slot != "decomposition")


def note_unused(overrides: Sequence[Any], chosen: Mapping[str, Sequence[str]]) -> None:
    """Say which components do not apply to the dense model that a command asks for.

    A study chooses its components for all its methods, so only the command itself is looked at.

    Args:
        overrides: Hydra's overrides.
        chosen: The options of each group that they name.
    """
    if any(option != "none" for option in chosen.get("decomposition", ())):
        return  # it compresses, also with method=dense
    dense = [f"method={DENSE}"] if DENSE in chosen.get("method", ()) else []
    dense += ["rate=0" for override in overrides if _is_rate_of_zero(override)]
    unused = {
        override.key_or_group: override.input_line
        for override in overrides
        if override.key_or_group in OF_COMPRESSION
        and any(option != "none" for option in chosen.get(override.key_or_group, ()))
    }
    if dense and unused:
        as_it_is = "unquantized" if "quantization" in unused else "as it is"
        message = "%s: the dense model is evaluated %s; %s does not apply"
        log.warning(message, dense[0], as_it_is, ", ".join(unused.values()))


def _is_rate_of_zero(override: Any) -> bool:
    if override.key_or_group != "rate" or override.is_delete():
        return False
    interval = override.is_sweep_override() and override.is_interval_sweep()
    return not interval and 0 in values(override)
