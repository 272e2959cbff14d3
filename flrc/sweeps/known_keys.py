"""The keys of the configuration, under the options that a command chooses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from flrc.errors import UserError, nearest
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.malformed_words import shown
from flrc.sweeps.model_names import is_name
from flrc.sweeps.overrides import quoted
from flrc.sweeps.value_checks import accepts, node_of, wrong_type

SIMILAR = 0.6
"""How similar a key must be to be proposed: ``foo`` is not ``form``."""
MOST_VARIANTS = 16
"""Combinations of options that are composed to find out whether a key exists."""


class KnownKeys:
    """The keys of the configuration with the options that a command chooses.

    Args:
        location: Where the configuration is.
        chosen: The options of each group that the command names.
        groups: Every group and its options.
    """

    def __init__(
        self, location: ConfigLocation, chosen: dict[str, list[str]], groups: dict[str, list[str]]
    ) -> None:
        self.groups = groups
        self._location, self._chosen = location, chosen
        # A key may belong to only one of the options that a sweep visits, so all are tried.
        variants: list[list[str]] = [[]]
        for group, options in chosen.items():
            whole = [f"{group}=[{','.join(options)}]"] if group == "evaluation" else None
            choices = whole or [
                f"{group}={quoted(option) if is_name(option) else option}" for option in options
            ]
            variants = [[*variant, choice] for variant in variants for choice in choices]
            variants = variants[:MOST_VARIANTS]
        self._variants = [tuple(variant) for variant in variants]

    def nodes(self, key: str) -> Iterator[Any]:
        """The node of a key in each variant that has it."""
        for variant in self._variants:
            node = node_of(_composed(self._location, variant), key)
            if node is not None:
                yield node

    def node(self, key: str) -> Any:
        """The node of a key in the first variant that has it; None if none has."""
        return next(self.nodes(key), None)

    def multirun(self) -> bool:
        """Whether a chosen study makes the command a sweep."""
        return any(
            _composed(self._location, variant).hydra.mode == RunMode.MULTIRUN
            for variant in self._variants
        )

    def check_value(self, key: str, value: Any, override: Any) -> None:
        """Raise UserError unless some variant accepts the value."""
        node = None
        for node in self.nodes(key):
            if accepts(node, value):
                return
        if node is not None:
            raise wrong_type(node, key, value, override.input_line, override.is_sweep_override())

    def check(self, key: str, override: Any) -> None:
        """Raise UserError unless some variant has this key."""
        if key.startswith("data.revisions.") or self.node(key) is not None:
            return  # revisions may have any data set as their key
        parent = key.rpartition(".")[0]
        if isinstance(self.node(parent) if parent else None, ListConfig):
            raise UserError(
                f"the elements of {parent} cannot be set one by one",
                given=override.input_line,
                fix=f"the whole list: {parent}=[VALUE,...]",
            )
        names = set(self.groups).union(*(
            _keys(OmegaConf.to_container(_composed(self._location, variant), resolve=False))
            for variant in self._variants
        ))  # fmt: skip
        names = {name for name in names if name != "hydra" and not name.startswith("hydra.")}
        close = _closest(key, names)
        written = override.input_line.partition("=")[2] if override.key_or_group == key else ""
        fix = f"did you mean {shown(f'{close}={written}') if written else close}?"
        while parent and parent not in names:
            parent = parent.rpartition(".")[0]
        prefix = f"{parent}." if parent else ""
        depth = prefix.count(".")
        siblings = [n for n in names if n.startswith(prefix) and n.count(".") == depth]
        raise UserError(
            f"there is no key or group {key!r} in this configuration",
            given=override.input_line,
            allowed=", ".join(sorted(siblings)),
            fix=self._unchosen(key)
            or self._of_another_option(key, override.input_line)
            or (None if close is None else fix),
        )

    def _of_another_option(self, key: str, given: str) -> str | None:
        """How to choose an option that has the key; None if no option of its group has it."""
        group = key.partition(".")[0]
        if group == "evaluation":
            return None
        others = [word for word in self._variants[0] if not word.startswith(f"{group}=")]
        having = [
            option
            for option in self.groups.get(group, [])
            if node_of(_composed(self._location, (*others, f"{group}={option}")), key) is not None
        ]
        if not having:
            return None
        first = f"{group}={having[0]} {shown(given)}"
        return first if len(having) == 1 else f"{first}; also a key of {', '.join(having[1:])}"

    def _unchosen(self, key: str) -> str | None:
        """How to choose the evaluation that a key belongs to; None unless that is the mistake."""
        group, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        exists = group == "evaluation" and name in self.groups["evaluation"]
        if not exists or self.node(f"evaluation.{name}") is not None:
            return None
        others = self._chosen.get("evaluation", ["perplexity"])
        return f"choose it first, as in evaluation=[{','.join([*others, name])}]"


def _closest(key: str, names: set[str]) -> str | None:
    """The most similar key: below the same key first, then one of the same name, then any.

    A key without a parent (``runs``) may be the last part of another one (``paths.runs``).
    """
    parent, dot, last = key.rpartition(".")
    beside = {
        name.rpartition(".")[2]: name
        for name in names
        if name.startswith(parent + dot) and name.count(".") == key.count(".")
    }
    by_depth = sorted(names, key=lambda name: (name.count("."), name))
    same = next((name for name in by_depth if name.rpartition(".")[2] == last), None)
    match = None if same and not parent else nearest(last, beside, SIMILAR)
    if match is not None:
        return beside[match]
    top = [name for name in by_depth if "." not in name]
    return same or nearest(key, by_depth, SIMILAR) or nearest(last, top, SIMILAR)


@lru_cache(maxsize=64)
def _composed(location: ConfigLocation, variant: tuple[str, ...]) -> DictConfig:
    """The configuration with these options, to be read only; composing takes most of a second."""
    try:
        config: DictConfig = loader(location).load_configuration(
            location.name, list(variant), RunMode.RUN
        )
    except ConfigCompositionException as error:
        reason = error.__cause__ or error.__context__
        part = str(getattr(reason, "full_key", None)).split(".")
        given = [override for override in variant if override.startswith("evaluation=")]
        if part[0] != "evaluation" or not given:
            raise
        raise UserError(
            f"the study has settings of {part[1]}, which is not among the chosen evaluations",
            given=", ".join(each for each in variant if each.startswith(("exp", "eval"))),
            fix=given[0].replace("]", f",{part[1]}]").replace("[,", "["),
        ) from error
    return config


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")
