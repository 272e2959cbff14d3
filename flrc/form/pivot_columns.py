"""Pivot columns of a right factor: ``A = A_J [I, A']`` with every ``|A'|`` bounded (float64)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

REFRESH = 200
"""Exchanges after which the coefficients are recomputed, to limit accumulated rounding errors."""


class Pivots(NamedTuple):
    """A right factor in terms of its pivot columns.

    Attributes:
        order: ``(n,)`` int64: the ``r`` pivot columns, then the others, both in ascending order.
        coefficients: ``(r, n - r)`` float64, ``A' = A_J^-1 A_rest``.
        swaps: Number of exchanges of a pivot column.
    """

    order: Int[Tensor, " n"]
    coefficients: Float[Tensor, "r k"]
    swaps: int


def pivot_columns(right: Float[Tensor, "r n"], bound: float) -> Pivots:
    """Choose ``r`` columns of a factor such that no coefficient of the others exceeds ``bound``.

    The start is Gaussian elimination with row pivoting on ``A^T``. It is invariant to the scale of
    the rows of ``A``, so graded singular values do no harm: in the row-permuted ``A^T = L U`` all
    grading is in ``U``, and ``A' = (L_rest L_J^-1)^T`` needs only ``L``, whose entries are at most
    1. Then pivot columns are exchanged for others, largest coefficient first. Each exchange
    multiplies ``|det A_J|`` by that coefficient, more than ``bound > 1``, so the exchanges
    terminate for every factor. A factor without full row rank is handled too: ``A_rest = A_J A'``
    still holds. The factor has ``r <= n`` and any float dtype; everything is computed in float64.

    Raises:
        ValueError: If the factor is not finite, or has more rows than columns.

    Source: Goreinov, Oseledets, Savostyanov, Tyrtyshnikov and Zamarashkin, How to find a good
        submatrix (2010), algorithm 1 (maxvol); strong rank-revealing QR (Gu and Eisenstat 1996)
        bounds the same coefficients by the same exchanges.
    """
    rank, width = right.shape
    if rank > width:
        raise ValueError(f"a factor of rank {rank} has only {width} columns")
    if rank == 0:
        return Pivots(torch.arange(width), right.double(), 0)
    matrix = right.double()
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError("the right factor is not finite")
    packed, exchanges, _ = torch.linalg.lu_factor_ex(matrix.T)
    order = torch.arange(width)
    for step, other in enumerate((exchanges - 1).tolist()):
        order[[step, other]] = order[[other, step]]
    lower = packed.tril(-1)
    lower.diagonal().fill_(1.0)
    coefficients = torch.linalg.solve_triangular(
        lower[:rank], lower[rank:], upper=False, left=False, unitriangular=True
    ).T.contiguous()
    # Rows of the basis span the rows of A; its columns stand in the order of the elimination.
    place, coefficients, swaps = _exchange(lower.T, coefficients, bound)
    order = order.to(place.device)[place]
    pivots, row = order[:rank].sort()
    rest, column = order[rank:].sort()
    return Pivots(torch.cat([pivots, rest]), coefficients[row][:, column], swaps)


def _exchange(
    basis: Float[Tensor, "r n"], coefficients: Float[Tensor, "r k"], bound: float
) -> tuple[Int[Tensor, " n"], Float[Tensor, "r k"], int]:
    """Exchange the first ``r`` columns of the basis until no coefficient exceeds ``bound``.

    Overwrites the coefficients. Returns the order of the basis' columns, the coefficients in that
    order, and the number of exchanges.
    """
    rank, width = basis.shape
    place = torch.arange(width, device=basis.device)
    swaps = stale = 0
    if width == rank:
        return place, coefficients, swaps
    while True:
        row, column = divmod(int(coefficients.abs().argmax()), width - rank)
        pivot = float(coefficients[row, column])
        if not math.isfinite(pivot):
            raise ValueError("the pivot columns of the right factor overflow")
        fine = abs(pivot) <= bound
        if fine and not stale:
            return place, coefficients, swaps
        if fine or stale == REFRESH:
            # Removes the rounding errors of the updates; then the result is checked once more.
            coefficients = torch.linalg.solve(basis[:, place[:rank]], basis[:, place[rank:]])
            stale = 0
            continue
        old, new = int(place[row]), int(place[rank + column])
        place[row], place[rank + column] = new, old
        # Rank-one update of A_J^-1 A_rest (Sherman-Morrison).
        gain = coefficients[:, column].clone()
        gain[row] -= 1
        loss = coefficients[row].clone()
        loss[column] += 1
        coefficients.addr_(gain, loss / pivot, alpha=-1)
        swaps, stale = swaps + 1, stale + 1
