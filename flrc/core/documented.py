"""Reads what the docstrings of configuration classes say about their fields."""

from __future__ import annotations

import inspect
import re

_ATTRIBUTES = re.compile(r"^Attributes:\n((?:(?: .*)?(?:\n|$))+)", re.MULTILINE)


def attributes(schema: type) -> dict[str, str]:
    """Field -> its meaning, on one line, from the ``Attributes:`` of a class and its bases.

    Raises:
        ValueError: If a class describes what it does not declare, or what a base describes.
    """
    known: dict[str, str] = {}
    for owner in reversed(schema.__mro__):
        section = _ATTRIBUTES.search(inspect.cleandoc(owner.__dict__.get("__doc__") or ""))
        for entry in re.split(r"(?m)^    (?=\w)", section[1] if section else "")[1:]:
            name, _, meaning = entry.partition(":")
            if name in known or name not in inspect.get_annotations(owner):
                raise ValueError(
                    f"{owner.__name__}: {name} is described elsewhere, or not declared"
                )
            known[name] = " ".join(meaning.split())
    return known
