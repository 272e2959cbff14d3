"""One float per number: 0.3 as written and 0.1 + 0.2 as computed are the same value."""

from __future__ import annotations

import math
import typing
from fractions import Fraction
from functools import cache
from numbers import Integral, Real
from typing import Any

DIGITS = 12
"""Significant digits of the decimal number that a float is rounded to."""
DENOMINATOR = 1000
"""Largest denominator of the fraction that a float is rounded to."""
ROUNDING = 4e-15
"""Largest relative distance to that number: sums and products of a few decimal numbers are off by
about 1e-16. All but about one in a hundred numbers given with more than ``DIGITS`` digits are
farther away, and are kept."""
CANCELLED = (1e-18, 1e-16)
"""Magnitudes between these are residues of decimal numbers that cancel out: they become 0."""


class Canonical:
    """A configuration whose numbers are made canonical when they are set.

    The computation, the id, the folder, the record and the table then use the same float, wherever
    the number came from: a YAML file, a Hydra range, an interpolation or Python.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        owner: type = type(self)
        super().__setattr__(name, canonical(value, name in _float_fields(owner)))


def canonical(value: Any, as_float: bool = False) -> Any:
    """Built-in numbers, floats without rounding errors; also inside lists, tuples and dicts.

    Args:
        value: Anything; other types than numbers and these containers are returned unchanged.
        as_float: Whether integers become floats, so that ``1`` and ``1.0`` are the same.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return float(value) if as_float else int(value)
    if isinstance(value, Real):
        # NumPy's float32 0.3 is 0.30000001192... as a float, but prints as 0.3.
        narrow = hasattr(value, "dtype") and not isinstance(value, float)
        return _rounded(float(str(value) if narrow else value))
    if type(value) in (list, tuple):
        return type(value)(canonical(item, as_float) for item in value)
    if type(value) is dict:
        return {key: canonical(item, as_float) for key, item in value.items()}
    return value


def _rounded(number: float) -> float:
    """The short decimal number or fraction that is a rounding error away, or the number itself.

    Fractions, because 1 / 3 and 1 - 2 / 3 are equal to no short decimal number.
    """
    if not math.isfinite(number):
        return number
    decimal = float(f"{number:.{DIGITS}g}")
    if math.isclose(number, decimal, rel_tol=ROUNDING):
        return decimal + 0.0  # -0.0 + 0.0 is 0.0
    if CANCELLED[0] < abs(number) < CANCELLED[1]:
        return 0.0
    fraction = float(Fraction(number).limit_denominator(DENOMINATOR))
    return fraction if math.isclose(number, fraction, rel_tol=ROUNDING) else number


@cache
def _float_fields(owner: type) -> frozenset[str]:
    """The fields declared as floats or containers of floats, and not also as integers."""
    declared = {name: _leaves(hint) for name, hint in typing.get_type_hints(owner).items()}
    return frozenset(
        name for name, types in declared.items() if float in types and int not in types
    )


def _leaves(hint: Any) -> set[Any]:
    """The innermost types of a hint: float and None for ``list[float] | None``."""
    arguments = typing.get_args(hint)
    return set().union(*map(_leaves, arguments)) if arguments else {hint}
