"""Checks groups, options and keys of the overrides; a typo is answered with the nearest match."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from flrc.errors import UserError, choose, nearest
from flrc.sweeps.arguments import ConfigLocation, loader
from flrc.sweeps.model_names import GROUP, is_name, named_models, register_named_models
from flrc.sweeps.overrides import parse, quoted, values

NOT_SWEPT = ("experiment", "scale")
"""Groups that cannot be swept: they define the grid, which Hydra reads once, before the sweep."""
MOST_VARIANTS = 16
"""Combinations of options that are composed to find out whether a key exists."""


def check_overrides(location: ConfigLocation, overrides: Sequence[str]) -> None:
    """Raise UserError at the first wrong group, option or key, before Hydra composes anything.

    Hydra finds the same mistakes, but only job by job and without naming the nearest match.
    """
    parsed = parse(overrides, loader(location))
    register_named_models(parsed)
    # Hydra alone knows the options in additional folders.
    if any(override.key_or_group == "hydra.searchpath" for override in parsed):
        return
    groups = _groups(location)
    groups[GROUP] = [*groups[GROUP], *named_models(parsed)]
    chosen: dict[str, list[str]] = {}
    ours = [override for override in parsed if not override.is_hydra_override()]
    for override in ours:
        group = override.key_or_group
        if group not in groups or override.is_delete() or isinstance(override.value(), dict):
            continue  # a dict sets keys
        chosen[group] = check_options(override, groups[group])
        if group in NOT_SWEPT and override.is_sweep_override():
            raise UserError(
                f"{group} cannot be swept: the grids of the studies would be lost",
                given=override.input_line,
                allowed="one value",
                fix=f"one command for each {group}",
            )
    for launcher in chosen.get("launcher", []):
        _check_launcher(launcher)
    for override in ours:
        key = override.key_or_group
        if key in groups or key.startswith("data.revisions."):
            continue  # revisions may have any data set as their key
        _check_key(location, key, chosen, groups)
        if override.is_delete() and not re.fullmatch(r"evaluation\.\w+", key):
            raise UserError(
                f"{key} cannot be removed: a run needs a value for every key",
                given=override.input_line,
                fix=f"{key}=VALUE",
            )


def _check_launcher(name: str) -> None:
    if name == "basic":
        return
    plugin = f"hydra-{name.partition('_')[0]}-launcher"
    try:
        distribution(plugin)
    except PackageNotFoundError as error:
        raise UserError(
            f"launcher={name} needs a Hydra plugin that is not installed",
            given=f"launcher={name}",
            fix=f"pip install {plugin}",
        ) from error


def _groups(location: ConfigLocation) -> dict[str, list[str]]:
    """Every group and its options, wherever Hydra finds them."""
    # The repository itself is asked: the loader would copy it, with all schemas, for each group.
    repository = loader(location).repository
    return {
        group: sorted(repository.get_group_options(group, ObjectType.CONFIG))
        for group in repository.get_group_options("", ObjectType.GROUP)
        if group not in ("hydra", "schema")
    }


def check_options(override: Any, options: list[str]) -> list[str]:
    """The options that an override chooses; UserError if one does not exist or is a list."""
    group = override.key_or_group
    entries = values(override)
    flat = [str(v) for entry in entries for v in (entry if isinstance(entry, list) else [entry])]
    if any(isinstance(entry, list) for entry in entries) and group != "evaluation":
        raise UserError(
            f"group {group} takes one option, not a list",
            given=override.input_line,
            allowed=options,
            fix=f"-m {group}={','.join(flat)} runs one job for each",
        )
    if not any(flat) and group != "evaluation":
        raise UserError(
            f"group {group} needs an option", given=override.input_line, allowed=options
        )
    return [choose(f"group {group}", option, options) for option in filter(None, flat)]


def _check_key(
    location: ConfigLocation, key: str, chosen: dict[str, list[str]], groups: dict[str, list[str]]
) -> None:
    """Raise UserError unless the configuration has this key with some of the chosen options."""
    # A key may belong to only one of the options that a sweep visits, so all are tried.
    variants: list[list[str]] = [[]]
    for group, options in chosen.items():
        whole = [f"{group}=[{','.join(options)}]"] if group == "evaluation" else None
        choices = whole or [
            f"{group}={quoted(option) if is_name(option) else option}" for option in options
        ]
        variants = [[*variant, choice] for variant in variants for choice in choices]
        variants = variants[:MOST_VARIANTS]
    known: set[str] = set()
    for variant in variants:
        known |= _known_keys(location, tuple(variant))
        if key in known:
            return
    names = known | set(groups)
    top_level = sorted(name for name in names if "." not in name)
    group, _, rest = key.partition(".")
    last = key.rsplit(".", 1)[-1]
    close = (
        nearest(key, names)
        or nearest(last, top_level)
        or next((name for name in sorted(names) if name.endswith(f".{last}")), None)
    )
    fix = f"did you mean {close}?" if close else None
    evaluation = rest.partition(".")[0]
    if group == "evaluation" and evaluation in groups["evaluation"]:
        others = chosen.get("evaluation", ["perplexity"])
        fix = f"choose it first, as in evaluation=[{','.join([*others, evaluation])}]"
    siblings = sorted(n for n in names if n.startswith(f"{group}.") and n.count(".") == 1)
    raise UserError(
        f"there is no key or group {key!r} in this configuration",
        given=key,
        allowed=", ".join(siblings or top_level),
        fix=fix,
    )


@lru_cache(maxsize=64)
def _known_keys(location: ConfigLocation, variant: tuple[str, ...]) -> frozenset[str]:
    """Every key of the configuration with these options; composing takes most of a second."""
    try:
        config = loader(location).load_configuration(location.name, list(variant), RunMode.RUN)
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
    with open_dict(config):
        del config["hydra"]
    return frozenset(_keys(OmegaConf.to_container(config, resolve=False)))


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(value, f"{prefix}{name}.")
