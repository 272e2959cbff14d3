"""A model by its name: ``model=owner/name``, ``model=./folder`` or ``model=file.gguf``.

Hydra knows options by their files. For each such value an option of the group ``model`` is stored
in its ConfigStore, so that the value stays what the user wrote: in sweeps, records and logs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from flrc.sweeps.overrides import values

log = logging.getLogger(__name__)

GROUP = "model"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def is_name(value: Any) -> bool:
    """Whether a value of ``model`` names a model itself and not an option of the group."""
    return isinstance(value, str) and (
        "/" in value or value.lower().endswith(".gguf") or value in (".", "..", "~")
    )


def named_models(overrides: Sequence[Any]) -> list[str]:
    """The models that Hydra's overrides name by themselves, those of sweeps included."""
    return [
        value
        for override in overrides
        if override.key_or_group == GROUP
        and not override.is_delete()
        and not (override.is_sweep_override() and override.is_interval_sweep())
        for value in values(override)
        if is_name(value)
    ]


def register_named_models(overrides: Sequence[Any]) -> None:
    """Make every named model an option of the group ``model``.

    Whatever exists on this machine is a saved model: a folder or a GGUF file. Anything else of the
    form ``owner/name`` is on the Hub. The rest is the path of a saved model that does not exist,
    which the run reports.

    Args:
        overrides: Hydra's overrides.
    """
    for name in named_models(overrides):
        folder, _, last = f"{GROUP}/{name}".rpartition("/")
        group = "/".join(part for part in folder.split("/") if part)
        node = _option(name)
        node["defaults"] = [f"/schema/{GROUP}/{node['name']}@_here_", "_self_"]
        ConfigStore.instance().store(last, node, group, package=GROUP)
        if not last:  # Hydra looks for a name that ends in a slash without it, too
            folder, _, last = group.rpartition("/")
            ConfigStore.instance().store(last, node, folder, package=GROUP)


def note_shadowed(names: Sequence[str]) -> None:
    """Say which model is taken where a name is a path here and may be one on the Hub as well."""
    for name in dict.fromkeys(names):
        path = Path(name)
        if _may_be_on_hub(name) and path.exists():
            log.warning(
                "model=%s: taking the %s ./%s; for the model on the Hub: model=hub model.id=%s",
                name,
                "folder" if path.is_dir() else "file",
                path,
                name,
            )


def _option(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    if not path.exists() and _may_be_on_hub(name):
        return {"name": "hub", "id": name}
    return {"name": "local", "path": str(path)}


def _may_be_on_hub(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not name.lower().endswith(".gguf")
