"""Every component and the options that select it, found through the registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from tiny import CONF

from flrc.config import GROUPS, components
from flrc.core.component import Component

ALL = [(group, name) for group in GROUPS for name in components(group)]
IDS = [f"{group}/{name}" for group, name in ALL]


def cls(group: str, name: str) -> type[Component]:
    """The class of a component."""
    return components(group)[name]


def uses(group: str, name: str) -> list[Path]:
    """YAMLs that begin with this component's schema."""
    schema = re.compile(rf"^\s*- /schema/{group}/{name}@", re.MULTILINE)
    files = sorted((CONF / group).glob("*.yaml"))
    return [path for path in files if schema.search(path.read_text("utf-8"))]


def values_of(group: str, path: Path) -> dict[str, Any]:
    """The values that a YAML states for its component."""
    content = yaml.safe_load(path.read_text("utf-8"))
    content = content.get(group, content)
    return {key: value for key, value in content.items() if key != "defaults"}
