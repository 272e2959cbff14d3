"""The base class of every exchangeable part: a dataclass that is its own configuration schema."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from flrc.core.canonical import Canonical, canonical
from flrc.errors import UserError

T = TypeVar("T")

_CONSTANT_NAME = re.compile(r"""^\s+name\s*:[^=\n]+=\s*["'][^"']""", re.MULTILINE)


def added(default: T) -> T:
    """The default of a field that is added to an existing configuration class.

    ``tokens: int = added(0)`` is left out of :func:`plain` while it is 0, so that every id, cache
    key and record from before the field existed stays the same.
    """
    made: T = field(
        default_factory=partial(canonical, default), metadata={"added": canonical(default)}
    )
    return made


def plain(config: Any) -> Any:
    """As ``dataclasses.asdict``, without :func:`added` fields that have their default."""
    if dataclasses.is_dataclass(config):
        return {
            f.name: plain(getattr(config, f.name))
            for f in dataclasses.fields(config)
            if f.metadata.get("added", dataclasses.MISSING) != getattr(config, f.name)
        }
    if isinstance(config, dict):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(plain(value) for value in config)
    return config


@dataclass
class Component(Canonical):
    """A named, configurable part of a run; its fields are its hyperparameters.

    ``name`` is constant per class. It is part of the configuration so that a composed YAML, a run
    id and a table say which class is used, and two components with equal fields never share an id.

    Attributes:
        name: Name of the component, which is also that of its file and its YAML; constant.
    """

    name: str = ""

    VERSION: ClassVar[int] = 1
    """Raised whenever the result for the same settings changes; part of cache keys and run ids."""
    NEEDS: ClassVar[tuple[str, ...]] = ()
    """Optional modules that every run with this component imports; see ``flrc.core.extras``."""

    def __post_init__(self) -> None:
        own = type(self).component_name()
        if self.name != own:
            raise UserError(
                "name says which component this is and cannot be set by hand",
                given=f"name={self.name}",
                allowed=f"name={own}",
                fix="choose another component with its group, as in allocator=uniform",
            )
        self.check()

    def check(self) -> None:
        """Raise UserError if a hyperparameter is out of range. Called on construction."""

    @classmethod
    def component_name(cls) -> str:
        """The constant name of this class."""
        return str(cls.__dataclass_fields__["name"].default)

    def needs(self) -> tuple[str, ...]:
        """The optional modules that a run with these settings imports."""
        return type(self).NEEDS

    def require(self, holds: bool, field: str, allowed: str, fix: str | None = None) -> None:
        """Raise a UserError that names ``field`` unless ``holds``."""
        if not holds:
            value = getattr(self, field)
            raise UserError(
                f"{self.name}: {field} is out of range",
                given=f"{field}={value}",
                allowed=allowed,
                fix=fix,
            )

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, VERSION included: what ids and cache keys are made of."""
        return {**plain(self), "version": type(self).VERSION}


def discover(package: str, base: type[Component]) -> dict[str, type[Component]]:
    """Every concrete subclass of ``base`` in the modules of ``package``, by name.

    A new component is found because its file exists; nothing is registered by hand. Only files that
    define a named component are imported: the others may import torch, and a mistyped option should
    be reported at once.
    """
    by_name: dict[str, type[Component]] = {}
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__):
        path = Path(root.__path__[0]) / f"{info.name}.py"
        if info.ispkg or not _CONSTANT_NAME.search(path.read_text("utf-8")):
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        for member in vars(module).values():
            if not (isinstance(member, type) and issubclass(member, base)):
                continue
            name = member.component_name()
            if not name or member.__module__ != module.__name__:
                continue
            if by_name.setdefault(name, member) is not member:
                raise TypeError(f"{member} and {by_name[name]} are both named {name!r}")
    return by_name
