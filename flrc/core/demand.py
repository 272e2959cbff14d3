"""What a piece of work demands of a machine: operations by kind, bytes moved, memory held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Rates:
    """Throughput of one machine, per second.

    Attributes:
        model: Floating-point operations of products in the model's dtype.
        single: Of products in float32.
        double: Of products in float64.
        factorised: Of eigendecompositions in float64, counted as in :class:`Demand`.
        moved: Bytes read and written.
        calls: Decoder blocks that are called on one token, whose arithmetic takes no time.
    """

    model: float
    single: float
    double: float
    factorised: float
    moved: float
    calls: float


@dataclass(frozen=True)
class Demand:
    """Operations of some work, and the memory that it holds; counted from shapes.

    A product of an ``(m, k)`` and a ``(k, n)`` matrix counts as ``2 m k n`` operations.

    Attributes:
        model: Operations of products in the model's dtype.
        single: Of products in float32.
        double: Of products in float64, and of what consists of them: Cholesky ``n^3 / 3``, a
            triangular solve with the identity ``n^3``, LU ``2 n^3 / 3``.
        factorised: Of orthogonal factorisations in float64: QR, an eigendecomposition ``9 n^3``.
        moved: Bytes read and written by what is limited by memory: weights of a decoding step,
            activations, sums of Gram matrices.
        calls: Calls of a decoder block: each costs Python the same, whatever the model's size.
        held: Largest number of bytes held at a time, in addition to the model.
    """

    model: float = 0.0
    single: float = 0.0
    double: float = 0.0
    factorised: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    held: float = 0.0

    def __add__(self, other: Demand) -> Demand:
        """One after the other: what the first held is free again."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Demand(**sums | {"held": max(self.held, other.held)})

    def __mul__(self, times: float) -> Demand:
        """The same several times, one after the other."""
        values = {f.name: times * getattr(self, f.name) for f in fields(self)}
        return Demand(**values | {"held": self.held if times else 0.0})

    def holding(self, more: float) -> Demand:
        """The same work while this many bytes are held besides."""
        return Demand(**vars(self) | {"held": self.held + more})

    @property
    def operations(self) -> float:
        """Floating-point operations of all kinds."""
        return self.model + self.single + self.double + self.factorised

    def seconds(self, rates: Rates) -> float:
        """The time on a machine: every kind of work at the throughput of its kind."""
        kinds = [f.name for f in fields(Rates)]
        return float(sum(getattr(self, kind) / getattr(rates, kind) for kind in kinds))


def total(demands: Iterable[Demand]) -> Demand:
    """The sum of demands, one after the other."""
    return sum(demands, Demand())
