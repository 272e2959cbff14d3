"""Mistyped groups, options and keys on the command line, answered with the nearest match."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from flrc.errors import UserError, nearest

GLOBAL_FLAGS = (
    "-m",
    "--multirun",
    "--help",
    "--hydra-help",
    "--cfg",
    "--info",
    "--resolve",
    "-h",
    "-c",
    "-p",
)


def check_overrides(conf: str, arguments: list[str]) -> None:
    """Check group names, their options and configuration keys before Hydra composes anything.

    Hydra finds the same mistakes, job by job and without the nearest match.

    Args:
        conf: Folder of the configuration.
        arguments: The command line.

    Raises:
        UserError: On the first mistake.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    words = [a for a in arguments if not a.startswith("-")]
    if any(a.startswith("-") and a not in ("-m", "--multirun") for a in arguments):
        return  # --help, --cfg ...: Hydra's own commands
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except OverrideParseException as error:
        raise UserError(
            "the command line cannot be read",
            given=error.override,
            allowed="key=value, or key=value,value with -m",
            fix=None if error.override is None else _quoted(error.override),
        ) from error
    groups = _groups(Path(conf))
    chosen: dict[str, list[str]] = {}
    for override in overrides:
        if override.key_or_group.startswith("hydra"):
            continue
        if override.key_or_group in groups:
            chosen[override.key_or_group] = _check_options(override, groups[override.key_or_group])
    for name in chosen.get("launcher", []):
        _check_launcher(name)
    for override in overrides:
        key = override.key_or_group
        if key.startswith("hydra") or key in groups or override.is_delete():
            continue
        if key.startswith("data.revisions."):
            continue  # the one place where keys are free: a revision by data set
        _check_key(conf, key, chosen, groups)


def _quoted(word: str) -> str | None:
    """The word with its value in quotes, which Hydra wants around letters it has no rule for."""
    key, equals, value = word.partition("=")
    if not equals or not value or any(sign in value for sign in "'\"\\"):
        return None
    return f"in quotes that the shell leaves: '{key}=\"{value}\"'"


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


def _groups(conf: Path) -> dict[str, list[str]]:
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(conf.iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }


def _check_options(override: Any, options: list[str]) -> list[str]:
    value = override.value()
    if override.is_sweep_override():
        values = list(override.sweep_iterator())
    else:
        values = value if isinstance(value, list) else [value]
    flat = [str(v) for entry in values for v in (entry if isinstance(entry, list) else [entry])]
    if isinstance(value, list) and override.key_or_group != "evaluation":
        raise UserError(
            f"group {override.key_or_group} takes one option, not a list",
            given=override.input_line,
            allowed=options,
            fix=f"-m {override.key_or_group}={','.join(flat)} for one run each",
        )
    words = [word.strip("[] ") for text in flat for word in text.split(",") if word.strip("[] ")]
    if not words and override.key_or_group != "evaluation":
        raise UserError(
            f"group {override.key_or_group} needs an option",
            given=override.input_line,
            allowed=options,
        )
    for word in words:
        if word not in options:
            raise UserError(
                f"group {override.key_or_group} has no option {word!r}", given=word, allowed=options
            )
    return words


def _check_key(
    conf: str, key: str, chosen: dict[str, list[str]], groups: dict[str, list[str]]
) -> None:
    # All options that the sweep visits: a key may belong to one of them only.
    variants: list[list[str]] = [[]]
    for group, options in chosen.items():
        whole = [f"{group}=[{','.join(options)}]"] if group == "evaluation" else None
        choices = whole or [f"{group}={option}" for option in options]
        variants = [[*variant, choice] for variant in variants for choice in choices][:16]
    known: set[str] = set()
    for variant in variants:
        known |= _known_keys(conf, tuple(variant))
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
def _known_keys(conf: str, variant: tuple[str, ...]) -> frozenset[str]:
    """Every key of the configuration with these choices; composing takes most of a second."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import ConfigCompositionException
    from omegaconf import OmegaConf

    with initialize_config_dir(conf, version_base="1.3"):
        try:
            config = compose("config", overrides=list(variant))
        except ConfigCompositionException as error:
            reason = error.__cause__ or error.__context__
            place = str(getattr(reason, "full_key", None)).split(".")
            given = [word for word in variant if word.startswith("evaluation=")]
            if place[0] != "evaluation" or not given:
                raise
            raise UserError(
                f"the study has settings of {place[1]}, which is not among the evaluations chosen",
                given=", ".join(word for word in variant if word.startswith(("exp", "eval"))),
                fix=given[0].replace("]", f",{place[1]}]").replace("[,", "["),
            ) from error
    return frozenset(_keys(OmegaConf.to_container(config, resolve=False)))


def _keys(node: Any, prefix: str = "") -> set[str]:
    if not isinstance(node, dict):
        return set()
    found: set[str] = set()
    for name, value in node.items():
        path = f"{prefix}{name}"
        found |= {path} | _keys(value, path + ".")
    return found
