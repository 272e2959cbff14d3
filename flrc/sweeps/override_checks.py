"""Mistyped groups, options and keys on the command line, answered with the nearest match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from flrc.errors import UserError, nearest
from flrc.sweeps.hydra_grammar import Place, loader, parse, values

ALONE = ("experiment", "scale")
"""Groups that a sweep cannot visit: they bring the grid, which Hydra reads once, before it."""


def check_overrides(place: Place, words: Sequence[str]) -> None:
    """Check group names, their options and configuration keys before Hydra composes anything.

    Hydra finds the same mistakes, job by job and without the nearest match.

    Args:
        place: Where the configuration is.
        words: The command line without flags.

    Raises:
        UserError: On the first mistake.
    """
    overrides = parse(words, loader(place))
    # Options in further folders are known to Hydra alone.
    if any(override.key_or_group == "hydra.searchpath" for override in overrides):
        return
    groups = _groups(place)
    chosen: dict[str, list[str]] = {}
    ours = [override for override in overrides if not override.is_hydra_override()]
    for override in ours:
        group = override.key_or_group
        if group not in groups or override.is_delete() or isinstance(override.value(), dict):
            continue  # a dict sets keys
        chosen[group] = check_options(override, groups[group])
        if group in ALONE and override.is_sweep_override():
            raise UserError(
                f"a sweep over {group} would drop the grids of the studies",
                given=override.input_line,
                allowed="one value",
                fix=f"one command for each {group}",
            )
    for name in chosen.get("launcher", []):
        _check_launcher(name)
    for override in ours:
        key = override.key_or_group
        if key in groups or key.startswith("data.revisions."):
            continue  # the one place where keys are free: a revision by data set
        _check_key(place, key, chosen, groups)
        if override.is_delete() and not re.fullmatch(r"evaluation\.\w+", key):
            raise UserError(
                f"{key} cannot be taken away: a run has a value for every key",
                given=override.input_line,
                fix=f"{key}=VALUE",
            )


def _check_launcher(name: str) -> None:
    """The plugin behind a launcher is installed."""
    plugin = name.partition("_")[0]
    if name == "basic":
        return
    try:
        distribution(f"hydra-{plugin}-launcher")
    except PackageNotFoundError as error:
        raise UserError(
            f"launcher={name} needs a plugin of Hydra's that is not installed",
            given=f"launcher={name}",
            fix=f"pip install hydra-{plugin}-launcher",
        ) from error


def _groups(place: Place) -> dict[str, list[str]]:
    """Every group and its options, wherever Hydra finds them."""
    from hydra.core.object_type import ObjectType

    found = loader(place)
    return {
        group: sorted(found.get_group_options(group, ObjectType.CONFIG))
        for group in found.list_groups("")
        if group not in ("hydra", "schema")
    }


def check_options(override: Any, options: list[str]) -> list[str]:
    """The options that a word chooses of a group.

    Raises:
        UserError: If there is none such, or it chooses several at once of a group that takes one.
    """
    group = override.key_or_group
    entries = values(override)
    flat = [str(v) for entry in entries for v in (entry if isinstance(entry, list) else [entry])]
    if any(isinstance(entry, list) for entry in entries) and group != "evaluation":
        raise UserError(
            f"group {group} takes one option, not a list",
            given=override.input_line,
            allowed=options,
            fix=f"-m {group}={','.join(flat)} for one run each",
        )
    if not any(flat) and group != "evaluation":
        raise UserError(
            f"group {group} needs an option", given=override.input_line, allowed=options
        )
    for word in filter(None, flat):
        if word not in options:
            raise UserError(f"group {group} has no option {word!r}", given=word, allowed=options)
    return list(filter(None, flat))


def _check_key(
    place: Place, key: str, chosen: dict[str, list[str]], groups: dict[str, list[str]]
) -> None:
    # All options that the sweep visits: a key may belong to one of them only.
    variants: list[list[str]] = [[]]
    for group, options in chosen.items():
        whole = [f"{group}=[{','.join(options)}]"] if group == "evaluation" else None
        choices = whole or [f"{group}={option}" for option in options]
        variants = [[*variant, choice] for variant in variants for choice in choices][:16]
    known: set[str] = set()
    for variant in variants:
        known |= _known_keys(place, tuple(variant))
        if key in known:
            return
    names = known | set(groups)
    group = key.split(".")[0]
    close = nearest(key, names) or nearest(
        key.rsplit(".", 1)[-1], {n for n in names if "." not in n}
    )
    if close is None:
        tail = [n for n in names if n.endswith("." + key.rsplit(".", 1)[-1])]
        close = tail[0] if tail else None
    fix = f"did you mean {close}?" if close else None
    part = key.split(".")[1] if group == "evaluation" and "." in key else None
    if part in groups["evaluation"]:
        others = chosen.get("evaluation", ["perplexity"])
        fix = f"choose it first, as in evaluation=[{','.join([*others, part])}]"
    siblings = sorted(n for n in names if n.startswith(group + ".") and n.count(".") == 1)
    raise UserError(
        f"there is no key or group {key!r} in this configuration",
        given=key,
        allowed=", ".join(siblings)
        if siblings
        else ", ".join(sorted(n for n in names if "." not in n)),
        fix=fix,
    )


@lru_cache(maxsize=64)
def _known_keys(place: Place, variant: tuple[str, ...]) -> frozenset[str]:
    """Every key of the configuration with these choices; composing takes most of a second."""
    from hydra.errors import ConfigCompositionException
    from hydra.types import RunMode
    from omegaconf import OmegaConf, open_dict

    try:
        config = loader(place).load_configuration(place.name, list(variant), RunMode.RUN)
    except ConfigCompositionException as error:
        reason = error.__cause__ or error.__context__
        part = str(getattr(reason, "full_key", None)).split(".")
        given = [word for word in variant if word.startswith("evaluation=")]
        if part[0] != "evaluation" or not given:
            raise
        raise UserError(
            f"the study has settings of {part[1]}, which is not among the evaluations chosen",
            given=", ".join(word for word in variant if word.startswith(("exp", "eval"))),
            fix=given[0].replace("]", f",{part[1]}]").replace("[,", "["),
        ) from error
    with open_dict(config):
        del config["hydra"]
    return frozenset(_keys(OmegaConf.to_container(config, resolve=False)))


def _keys(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return set()
    found: set[str] = set()
    for name, value in node.items():
        path = f"{prefix}{name}"
        found |= {path} | _keys(value, path + ".")
    return found
