"""A default has one value and a key one meaning, however often they are stated."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from options import ALL, IDS, cls, uses, values_of
from options_page import meanings
from tiny import CONF

from flrc.allocator.uniform import Uniform
from flrc.config import GROUPS, Paths, RunConfig, register
from flrc.core.component import plain

OPTIONS = [(group, name, path) for group, name in ALL for path in uses(group, name)]
OPTION_IDS = [f"{group}/{name}-{path.stem}" for group, name, path in OPTIONS]
SCHEMAS = [*(cls(*component) for component in ALL), Paths, RunConfig]
RUN_WIDE = [path for group in ("launcher", "scale") for path in (CONF / group).glob("*.yaml")]
"""YAMLs that set keys of the run itself."""
NOTE = r"(variant|source): \S.*"
"""What a comment in a component's YAML may say: why a value is another than the default, or where a
value is from. The meaning of a key is in the ``Attributes:`` of the class."""


def defaults(schema: type) -> dict[str, Any]:
    """Field -> default."""
    return {
        f.name: f.default if f.default_factory is MISSING else plain(f.default_factory())
        for f in fields(schema)
    }


@cache
def composed() -> DictConfig:
    """What ``python run.py`` runs, free of schemas."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.create(OmegaConf.to_container(compose("config")))
    assert isinstance(plain, DictConfig)
    return plain


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    """Values, interpolations among them as in the default run."""
    stated = OmegaConf.merge(composed(), {"stated": values}).stated
    return OmegaConf.to_container(stated, resolve=True)  # type: ignore[no-any-return]


def marked(path: Path) -> set[str]:
    """Keys that a YAML calls variants; the empty one stands for the whole file."""
    return set(re.findall(r"^(?: *(\w+):.*?)?# variant: \S", path.read_text("utf-8"), re.MULTILINE))


def check(path: Path, stated: dict[str, Any], schema: type) -> None:
    """What is stated is the class's default, or marked."""
    default, variants = defaults(schema), marked(path)
    other = {key for key, value in stated.items() if value != default[key]}
    if "" in variants:
        assert variants == {""}, f"{path}: the whole file is a variant; no line need say so"
        assert other, f"{path}: has the defaults of {schema.__name__}, so it is not a variant"
        return
    for key in sorted(other - variants):
        pytest.fail(
            f"{path.relative_to(CONF.parent)}: {key} is {stated[key]!r}, and {default[key]!r} in "
            f"{schema.__name__}: make them the same, or say why not with `# variant: ...`"
        )
    assert not variants - other, f"{path}: {variants - other} have their defaults"


@pytest.mark.parametrize(("group", "name", "path"), OPTIONS, ids=OPTION_IDS)
def test_an_option_has_the_defaults_of_its_class(group: str, name: str, path: Path) -> None:
    check(path, resolved(values_of(group, path)), cls(group, name))


@pytest.mark.parametrize("path", RUN_WIDE, ids=lambda path: path.stem)
def test_the_run_wide_keys_of_an_option(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    check(path, {k: v for k, v in content.items() if k not in ("defaults", "hydra")}, RunConfig)


def test_the_default_run_has_the_defaults_of_its_classes() -> None:
    for schema, run in ((RunConfig, composed()), (Paths, composed().paths)):
        own = {k: v for k, v in defaults(schema).items() if k not in (*GROUPS, "method", "paths")}
        assert {key: run[key] for key in own} == own
        assert own


@pytest.mark.parametrize("schema", SCHEMAS, ids=[*IDS, "paths", "run"])
def test_every_key_has_a_meaning(schema: type) -> None:
    without = {field.name for field in fields(schema)} - set(meanings(schema))
    assert not without, f"{schema.__name__}: describe {without} under `Attributes:`"


def test_no_key_has_two_meanings() -> None:
    @dataclass
    class Twice(Uniform):
        """A class.

        Attributes:
            samples: Described by Allocator.
        """

        samples: int | None = 3

    with pytest.raises(ValueError, match="samples is described elsewhere"):
        meanings(Twice)


@pytest.mark.parametrize(("group", "name", "path"), OPTIONS, ids=OPTION_IDS)
def test_comments_of_an_option(group: str, name: str, path: Path) -> None:
    """The first says what the option is; those of keys are not their meanings."""
    text = path.read_text("utf-8").removeprefix("# @package _global_\n")
    text = text.removeprefix(f"# @package {group}.{name}\n")
    head, _, body = text.partition("defaults:")
    assert re.match(r"# \w", head), f"{path}: the first line says what this is"
    for comment in re.findall(r"#\s*(.*)", body):
        assert re.fullmatch(NOTE, comment), (
            f"{path}: `{comment}` is neither a `source: ...` nor a `variant: ...`; the meaning of "
            "a key is described in its class"
        )


@pytest.mark.parametrize(
    "path",
    [p for g in ("launcher", "scale", "method", "hydra") for p in (CONF / g).rglob("*.yaml")],
    ids=lambda path: path.stem,
)
def test_comments_of_other_files(path: Path) -> None:
    """Keys of the launchers are described where they are set: no class of ours does."""
    lines = path.read_text("utf-8").splitlines()
    assert re.match("# [^@]", lines[lines[0].startswith("# @package")]), path
    if path.parent.name != "launcher":
        return
    for line in lines[lines.index("hydra:") :] if "hydra:" in lines else []:
        assert re.search(r":$| # \w", line), f"{path}: {line.strip()} has no comment"
