"""Checks that the values of overrides have the types that the configuration declares."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from omegaconf import (
    BooleanNode,
    Container,
    DictConfig,
    FloatNode,
    IntegerNode,
    ListConfig,
    OmegaConf,
    ValueNode,
)
from omegaconf.errors import OmegaConfBaseException

from flrc.errors import UserError
from flrc.sweeps.malformed_words import shown

TYPES = ((BooleanNode, "true or false"), (IntegerNode, "a whole number"), (FloatNode, "a number"))


def settings(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The keys that an override sets, with their values: a dict sets the keys inside it."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from settings(f"{key}.{name}", inner)
    else:
        yield key, value


def node_of(config: DictConfig, key: str) -> Any:
    """The node of a key, unresolved; None if there is none."""
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return None
        node = node._get_node(name, validate_access=False)
    return node


def accepts(node: Any, value: Any) -> bool:
    """Whether a value, which OmegaConf may convert, has the type of a node."""
    if isinstance(value, str) and "${" in value:
        return True  # only the composed job has its value
    try:
        if value is None:
            return bool(node._is_optional())
        if isinstance(node, ValueNode):
            node.validate_and_convert(value)
        elif isinstance(node, Container):
            trial = copy.deepcopy(node)
            OmegaConf.set_readonly(trial, False)
            trial._set_value(value)
    except (OmegaConfBaseException, ValueError):
        return False
    return True


def wrong_type(node: Any, key: str, value: Any, given: str, swept: bool) -> UserError:
    """The error for a value that a node does not accept, with the value that was meant if known.

    Args:
        node: The node of the key.
        key: The key.
        value: The wrong value.
        given: What the user wrote.
        swept: Whether the value is one of several.
    """
    wanted, meant = _described(node), _meant(node, value)
    example = node._value() if isinstance(node, ValueNode) and not node._is_missing() else None
    fix = None
    if meant is not None and not swept:
        fix = shown(f"{key}={meant}")
    elif isinstance(example, int | float):
        fix = f"for example {key}={str(example).lower()}"
    return UserError(
        f"{key} must be {wanted}",
        given=f"{value} in {given}" if swept else given,
        fix=fix,
    )


def _described(node: Any) -> str:
    null = " or null" if node._is_optional() else ""
    for kind, words in TYPES:
        if isinstance(node, kind):
            return words + null
    if isinstance(node, ListConfig):
        element = node._metadata.element_type
        elements = {int: " of whole numbers", float: " of numbers", str: " of names"}
        return f"a list{elements.get(element, '')} in brackets{null}"
    if isinstance(node, DictConfig):
        return f"set key by key{null}"
    return f"one text{null}"


def _meant(node: Any, value: Any) -> str | None:
    """The value as it should have been written; None if that is not clear."""
    if isinstance(node, ListConfig) and not isinstance(value, list | dict | None):
        return f"[{value}]" if accepts(node, [value]) else None
    if isinstance(value, list) and len(value) == 1 and accepts(node, value[0]):
        return str(value[0])
    if isinstance(node, IntegerNode) and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(node, FloatNode) and isinstance(value, str) and value.rstrip().endswith("%"):
        try:
            return f"{float(value.rstrip()[:-1]) / 100:g}"
        except ValueError:
            return None
    return None
