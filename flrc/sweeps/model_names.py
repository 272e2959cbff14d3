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

from flrc.errors import UserError
from flrc.models.sources.hub_page import hub_page
from flrc.models.sources.local import SAVED, wrong_path
from flrc.sweeps.malformed_words import shown
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


def check_pages(overrides: Sequence[Any]) -> None:
    """Raise UserError for the address of a page on the Hub, with the id that it holds.

    Args:
        overrides: Hydra's overrides.
    """
    for override in overrides:
        for name in named_models([override]):
            if (page := hub_page(name)) is not None and not Path(name).exists():
                swept, given = override.is_sweep_override(), override.input_line
                raise UserError(
                    "a model on the Hub is named by its id, not by its address",
                    given=given if swept else f"{GROUP}={name}",
                    allowed="OWNER/NAME, and model.revision",
                    fix=f"-m {shown(given.replace(name, page.id))}" if swept else page.settings,
                )


def register_named_models(overrides: Sequence[Any]) -> None:
    """Make every named model an option of the group ``model``.

    Whatever exists on this machine is a saved model: a folder or a GGUF file. Anything else of the
    form ``owner/name`` is on the Hub. The rest is the path of a saved model that does not exist:
    see :func:`check_named_models`.

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


def check_named_models(overrides: Sequence[Any]) -> None:
    """Check the models that are named by a path, and say which a name means if it may mean two.

    Args:
        overrides: Hydra's overrides.

    Raises:
        UserError: If nothing is at a path, or a file that is only a part of a model.
    """
    for override in overrides:
        for name in dict.fromkeys(named_models([override])):
            if "path" in _option(name):
                _check_path(name, override)
                _note_shadowed(name)


def _check_path(name: str, override: Any) -> None:
    home = Path(name).expanduser() if name.startswith("~") else name
    if (wrong := wrong_path(str(home))) is None:
        return
    swept = override.is_sweep_override()
    given = override.input_line if swept else f"{GROUP}={name}"
    problem, meant = wrong
    fix = "check the path"
    if meant is not None:
        meant = meant if is_name(meant) else f"./{meant}"
        fix = ("-m " if swept else "") + shown(given.replace(name, meant))
    raise UserError(problem, given=given, allowed=SAVED, fix=fix)


def _note_shadowed(name: str) -> None:
    if _may_be_on_hub(name):
        what = "folder" if Path(name).is_dir() else "file"
        message = "model=%s: taking the %s ./%s; for the model on the Hub: model=hub model.id=%s"
        log.warning(message, name, what, name, name)


def _option(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    if not path.exists() and _may_be_on_hub(name):
        return {"name": "hub", "id": name}
    return {"name": "local", "path": str(path)}


def _may_be_on_hub(name: str) -> bool:
    return HUB_ID.fullmatch(name) is not None and not name.lower().endswith(".gguf")
