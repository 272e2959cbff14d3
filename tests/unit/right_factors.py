"""Right factors that are hard to pivot, for the tests of the pivoted form."""

from __future__ import annotations

import torch
from torch import Tensor


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def graded() -> Tensor:
    left, _ = torch.linalg.qr(random(30, 30))
    right, _ = torch.linalg.qr(random(80, 30, seed=1))
    return left @ torch.diag(torch.logspace(0, -8, 30, dtype=torch.float64)) @ right.T


def graded_rows() -> Tensor:
    return torch.logspace(0, -8, 30, dtype=torch.float64)[:, None] * random(30, 80)


def one_large_column() -> Tensor:
    factor = random(30, 80)
    factor[:, 17] *= 1e4
    return factor


def repeated_columns() -> Tensor:
    factor = random(30, 40)
    return torch.cat([factor, factor], dim=1)


def without_full_rank() -> Tensor:
    factor = random(30, 80)
    factor[20:] = factor[:10] * 3
    return factor


def with_zeros() -> Tensor:
    factor = random(30, 80)
    factor[5], factor[:, 3] = 0, 0
    return factor


def growing() -> Tensor:
    """Elimination with row pivoting makes coefficients of 2^28 here (Wilkinson's matrix)."""
    lower = torch.eye(30, dtype=torch.float64) - torch.ones(30, 30, dtype=torch.float64).tril(-1)
    return torch.cat([lower.T, 0.9 * (torch.arange(30) % 2 * 2 - 1.0)[:, None].double()], dim=1)


NASTY = [
    graded,
    graded_rows,
    one_large_column,
    repeated_columns,
    without_full_rank,
    with_zeros,
    growing,
]
