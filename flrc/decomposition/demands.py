"""What decompositions demand, counted from the shapes of a weight; float64."""

from __future__ import annotations

from flrc.core.demand import Demand

FEW = 2
"""Channels per token from which on a Gram matrix counts as one of few tokens."""
SPARE = 16
"""Random directions beyond the rank that are drawn for a Gram matrix of few tokens."""


def svd(d_out: int, d_in: int, *, deficient: bool = False) -> Demand:
    """The SVD of a matrix, by the eigenvectors of the smaller of its two Gram matrices.

    A matrix without full rank takes those for nothing, and then a bidiagonalisation: see
    :func:`flrc.decomposition.truncation.singular_values`.

    Source: Golub and Van Loan, Matrix Computations, section 8.6, for the operations.
    """
    small, large = sorted((d_out, d_in))
    if deficient:
        products, factorised = 2 * small**2 * large, 6 * large * small**2 + 29 * small**3
    else:  # the Gram matrix, and the other side's vectors
        products, factorised = 4 * small**2 * large, 9 * small**3
    return Demand(
        double=products,
        factorised=factorised,
        held=8 * (d_out * d_in + 4 * small**2 + small * (d_out + d_in)),
    )


def root(width: int) -> Demand:
    """Cholesky's root of a Gram matrix, and its inverse."""
    return Demand(double=width**3 / 3 + width**3, held=16 * width**2)


def root_of_few(width: int, tokens: int) -> Demand:
    """The root of the Gram matrix of few tokens, and its inverse, from its leading eigenvectors."""
    columns = min(width, tokens + SPARE)
    return Demand(
        double=4 * width**2 * (columns + tokens) + 2 * width * columns * (columns + tokens),
        factorised=4 * width * columns**2 + 9 * columns**3,
        held=16 * width**2 + 16 * width * columns,
    )


def transformed(d_out: int, d_in: int, side: int) -> Demand:
    """A weight times the root of one side, of that width, and a factor times its inverse."""
    return Demand(
        double=2 * d_out * d_in * side + 2 * min(d_out, d_in) * side**2,
        held=8 * d_out * d_in,
    )
