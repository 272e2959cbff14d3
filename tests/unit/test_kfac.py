"""Two-sided whitening against numpy and against its own metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flrc.calibration.statistics import InputStatistics, OutputStatistics
from flrc.decomposition.factors import truncation_losses
from flrc.decomposition.kfac import Kfac
from flrc.decomposition.truncation import GRAM_LIMIT, shrinkage, shrunk, singular_values
from flrc.decomposition.whitened import Whitened
from flrc.errors import UserError

NOTHING_SHRUNK = Kfac(input_shrinkage=0.0, output_shrinkage=0.0, input_prior=0.0, output_prior=0.0)
Matrix = NDArray[np.float64]


def made(m: int, n: int, seed: int = 0) -> tuple[Matrix, Matrix, Matrix]:
    """A weight, an input Gram, a gradient Gram; both Grams far from the identity."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(200, n)) @ draw.normal(size=(n, n)) * np.logspace(-1, 1, n)
    g = draw.normal(size=(200, m)) @ draw.normal(size=(m, m)) * np.logspace(1, -1, m)
    return draw.normal(size=(m, n)), x.T @ x / 200, g.T @ g / 200


def statistics(c: Matrix, g: Matrix) -> tuple[InputStatistics, OutputStatistics]:
    return (
        InputStatistics(torch.tensor(c), torch.zeros(len(c)).double(), 200),
        OutputStatistics(torch.tensor(g), 200),
    )


def shrink(matrix: Matrix, share: float) -> Matrix:
    return (1 - share) * matrix + share * np.trace(matrix) / len(matrix) * np.eye(len(matrix))


def root(matrix: Matrix) -> Matrix:
    """The symmetric root: a different root from the code's Cholesky factor."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


@pytest.mark.parametrize(("m", "n"), [(9, 14), (14, 9), (10, 10)])
def test_every_rank_is_the_optimum_of_the_two_sided_metric(m: int, n: int) -> None:
    weight, c, g = made(m, n)
    factors = Kfac().decompose(torch.tensor(weight), *statistics(c, g))
    # 200 tokens seen, 0.2 n and 2 m more of the isotropic prior.
    c = shrink(c, 1 - (1 - 1e-6) * 200 / (200 + 0.2 * n))
    g = shrink(g, 2 * m / (200 + 2 * m))
    s_g, s_c = root(g), root(c)
    left, sigma, right = np.linalg.svd(s_g @ weight @ s_c)
    np.testing.assert_allclose(factors.spectrum.numpy(), sigma, rtol=1e-8)
    losses = truncation_losses(factors.spectrum).numpy()
    for rank in range(1, min(m, n) + 1):
        ours = factors.product(rank).numpy()
        cut = (left[:, :rank] * sigma[:rank]) @ right[:rank]
        best = np.linalg.solve(s_g, cut) @ np.linalg.inv(s_c)
        np.testing.assert_allclose(ours, best, rtol=1e-6, atol=1e-7 * np.abs(weight).max())
        error = weight - ours
        # tr(G dW C dW^T), the metric itself, is the sum of the dropped squared singular values.
        loss = np.trace(g @ error @ c @ error.T)
        np.testing.assert_allclose(loss, losses[rank], rtol=1e-6, atol=1e-9 * losses[0])


def test_beats_one_sided_whitening_and_the_untransposed_root_in_the_metric() -> None:
    weight, c, g = made(12, 16, seed=3)
    inputs, outputs = statistics(c, g)
    ours = NOTHING_SHRUNK.decompose(torch.tensor(weight), inputs, outputs)
    one_sided = Whitened().decompose(torch.tensor(weight), inputs)
    lower, l_c = np.linalg.cholesky(g), np.linalg.cholesky(c)
    # The public code's left transform: L_g where the formula has L_g^T.
    left, sigma, right = np.linalg.svd(lower @ weight @ l_c)

    def loss(approximation: Matrix) -> float:
        error = weight - approximation
        return float(np.trace(g @ error @ c @ error.T))

    for rank in (2, 5, 8):
        cut = (left[:, :rank] * sigma[:rank]) @ right[:rank]
        untransposed = np.linalg.solve(lower, cut) @ np.linalg.inv(l_c)
        ours_loss = loss(ours.product(rank).numpy())
        assert ours_loss < 0.9 * loss(one_sided.product(rank).numpy())
        assert ours_loss < loss(untransposed)


def test_a_singular_gradient_gram_takes_the_reported_fallback() -> None:
    weight, c, _ = made(8, 11)
    draw = np.random.default_rng(1)
    thin = draw.normal(size=(3, 8))
    g = thin.T @ thin
    factors = NOTHING_SHRUNK.decompose(torch.tensor(weight), *statistics(c, g))
    assert factors.rescue is not None
    assert "3 of 8" in factors.rescue
    error = weight - factors.product(3).numpy()
    assert np.trace(g @ error @ c @ error.T) < 1e-9 * np.trace(g @ weight @ c @ weight.T)
    np.testing.assert_allclose(factors.product().numpy(), weight, atol=1e-6)  # full rank is dense
    assert Kfac().decompose(torch.tensor(weight), *statistics(c, g)).rescue is None


def test_both_statistics_are_needed() -> None:
    inputs, outputs = statistics(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="Gram matrices"):
        Kfac().decompose(torch.eye(3), inputs)
    with pytest.raises(ValueError, match="Gram matrices"):
        Kfac().decompose(torch.eye(3), None, outputs)


def test_clip_bounds_are_checked() -> None:
    assert Kfac(clip=[0.1, 10]).gradients().clip == (0.1, 10)
    with pytest.raises(UserError, match="clip"):
        Kfac(clip=[2, 10])


@pytest.mark.parametrize(("m", "n"), [(40, 60), (60, 40), (50, 50)])
@pytest.mark.parametrize("decay", [-2.0, -4.0, -8.0])
def test_the_cheaper_side_gives_the_svd(m: int, n: int, decay: float) -> None:
    """Above and below the limit: squared singular values fall to 1e-4, 1e-8 (eigh), 1e-16 (SVD)."""
    draw = np.random.default_rng(0)
    u, _ = np.linalg.qr(draw.normal(size=(m, min(m, n))))
    v, _ = np.linalg.qr(draw.normal(size=(n, min(m, n))))
    sigma = np.logspace(0, decay, min(m, n))
    matrix = torch.tensor((u * sigma) @ v.T)
    left, spectrum, right = singular_values(matrix)
    assert (decay == -8.0) == (sigma[-1] ** 2 < GRAM_LIMIT)
    np.testing.assert_allclose(spectrum.numpy(), sigma, rtol=1e-6, atol=1e-14)
    torch.testing.assert_close((left * spectrum) @ right, matrix, rtol=0, atol=1e-13)
    for rank in (5, 20, 35):
        rest = matrix - (left[:, :rank] * spectrum[:rank]) @ right[:rank]
        tail = float((sigma[rank:] ** 2).sum())
        assert float(rest.square().sum()) == pytest.approx(tail, rel=1e-6, abs=1e-28)


def test_a_matrix_without_full_rank_takes_the_svd() -> None:
    matrix = torch.randn(8, 3, dtype=torch.float64) @ torch.randn(3, 6, dtype=torch.float64)
    left, spectrum, right = singular_values(matrix)
    assert bool(torch.isfinite(left).all() & torch.isfinite(right).all())
    torch.testing.assert_close((left * spectrum) @ right, matrix)


def test_shrinkage_by_hand() -> None:
    assert shrinkage(0.1, 0.0, 50, 7) == pytest.approx(0.1)
    assert shrinkage(0.0, 2.0, 50, 300) == pytest.approx(0.25)  # 100 prior tokens beside 300
    assert shrinkage(0.1, 2.0, 50, 300) == pytest.approx(1 - 0.9 * 0.75)
    matrix = torch.tensor([[2.0, 1.0], [1.0, 4.0]])
    assert shrunk(matrix, 0.25).tolist() == [[2.25, 0.75], [0.75, 3.75]]
