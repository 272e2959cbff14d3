"""One float for one number: what is written 0.3 and what is computed as 0.1 + 0.2 are the same."""

from __future__ import annotations

import math
import typing
from fractions import Fraction
from functools import cache
from numbers import Integral, Real
from typing import Any

DIGITS = 12
"""Significant digits of a decimal number that a float is taken for."""
DENOMINATOR = 1000
"""Largest denominator of a fraction that a float is taken for."""
ROUNDING = 4e-15
"""How far a float may be from such a number, as a share of it: sums and products of a few decimal
numbers leave some 1e-16. Numbers that are meant with more than ``DIGITS`` digits are farther away
but for one in a hundred, and stay."""
NOTHING = (1e-18, 1e-16)
"""Between these is what is left of decimal numbers that cancel out."""


class Canonical:
    """A configuration whose numbers are canonical from the moment that they are set.

    What is computed with, the id, the folder, the record and the table then hold the same float,
    whatever the number came from: a YAML file, a range of Hydra's, an interpolation, Python.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        owner: type = type(self)
        super().__setattr__(name, canonical(value, name in _float_fields(owner)))


def canonical(value: Any, as_float: bool = False) -> Any:
    """Python's own numbers, floats without rounding errors; also inside lists, tuples and dicts.

    Args:
        value: Anything; what is neither a number nor such a container is returned as it is.
        as_float: Whether an integer stands for a float, so that ``1`` and ``1.0`` are the same.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return float(value) if as_float else int(value)
    if isinstance(value, Real):
        # 0.3 of NumPy's float32 is 0.30000001192... as a float, and 0.3 in its own precision.
        narrow = hasattr(value, "dtype") and not isinstance(value, float)
        return _meant(float(str(value) if narrow else value))
    if type(value) in (list, tuple):
        return type(value)(canonical(one, as_float) for one in value)
    if type(value) is dict:
        return {key: canonical(one, as_float) for key, one in value.items()}
    return value


def _meant(number: float) -> float:
    """The short decimal number or the fraction that is a rounding error away, or the number itself.

    A fraction, since the roundings of 1 / 3 and 1 - 2 / 3 to decimals would both be other numbers.
    """
    if not math.isfinite(number):
        return number
    decimal = float(f"{number:.{DIGITS}g}")
    if math.isclose(number, decimal, rel_tol=ROUNDING):
        return decimal + 0.0  # -0.0 + 0.0 is 0.0
    if NOTHING[0] < abs(number) < NOTHING[1]:
        return 0.0
    fraction = float(Fraction(number).limit_denominator(DENOMINATOR))
    return fraction if math.isclose(number, fraction, rel_tol=ROUNDING) else number


@cache
def _float_fields(owner: type) -> frozenset[str]:
    """The fields that hold floats, or containers of them, and no integers."""
    declared = {name: _leaves(hint) for name, hint in typing.get_type_hints(owner).items()}
    return frozenset(
        name for name, found in declared.items() if float in found and int not in found
    )


def _leaves(hint: Any) -> set[Any]:
    """The types that a type is made of: float and None of ``list[float] | None``."""
    arguments = typing.get_args(hint)
    return set().union(*map(_leaves, arguments)) if arguments else {hint}
