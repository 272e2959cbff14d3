"""The pivot columns of a right factor: coefficients are bounded, whatever the factor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from right_factors import NASTY, graded, growing, random
from torch import Tensor

from flrc.errors import UserError
from flrc.form.pivot_columns import pivot_columns
from flrc.form.pivoted import Pivoted


@pytest.mark.parametrize("make", NASTY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("bound", [1.01, 1.25, 2.0, 10.0])
def test_coefficients_are_bounded_and_give_the_factor_back(
    make: Callable[[], Tensor], bound: float
) -> None:
    factor = make()
    rank, width = factor.shape
    found = pivot_columns(factor, bound)
    assert float(found.coefficients.abs().max()) <= bound
    assert sorted(found.order.tolist()) == list(range(width))
    pivots, rest = found.order[:rank].numpy(), found.order[rank:].numpy()
    assert pivots.tolist() == sorted(pivots.tolist())
    again = np.empty(factor.shape)
    again[:, pivots] = factor.numpy()[:, pivots]
    again[:, rest] = factor.numpy()[:, pivots] @ found.coefficients.numpy()
    scale = np.abs(factor.numpy()).max(axis=1, keepdims=True) + 1e-30  # of each row
    loosest = 1e-7 if make is graded else 1e-11  # rows of `graded` mix 1 with 1e-8
    assert (np.abs(again - factor.numpy()) / scale).max() < loosest


def test_the_start_alone_does_not_meet_the_bound() -> None:
    assert pivot_columns(growing(), 2.0).swaps > 0
    assert pivot_columns(graded(), 1.01).swaps > 0
    assert pivot_columns(graded(), 1e6).swaps == 0


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 12))
def test_any_factor_is_bounded(seed: int, rank: int, more: int) -> None:
    factor = random(rank, rank + more, seed=seed)
    found = pivot_columns(factor.float(), 1.1)
    if more:
        assert float(found.coefficients.abs().max()) <= 1.1
    basis = factor.float().double()[:, found.order]
    np.testing.assert_allclose(
        basis[:, :rank] @ found.coefficients, basis[:, rank:], rtol=1e-6, atol=1e-6
    )


def test_factors_that_cannot_be_pivoted_are_refused() -> None:
    with pytest.raises(ValueError, match="only 3 columns"):
        pivot_columns(random(4, 3), 2.0)
    with pytest.raises(ValueError, match="not finite"):
        pivot_columns(torch.full((2, 3), float("nan")), 2.0)
    with pytest.raises(UserError, match="above 1"):
        Pivoted(bound=1.0)
