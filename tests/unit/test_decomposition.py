"""Truncation loss against theory, on inputs and not on this package's Gram matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flrc.calibration.statistics import InputAccumulator, InputStatistics
from flrc.decomposition.activation_scaled import ActivationScaled
from flrc.decomposition.factors import Factors, relative_error
from flrc.decomposition.none import NoDecomposition
from flrc.decomposition.svd import Svd
from flrc.decomposition.truncation import gram_root, truncated
from flrc.decomposition.whitened import Whitened
from flrc.errors import UserError

RNG = np.random.default_rng(3)


def problem(
    m: int = 12, n: int = 16, tokens: int = 200
) -> tuple[np.ndarray, np.ndarray, InputStatistics]:
    """Weight, inputs of very unequal and correlated channels, and their statistics by numpy."""
    weight = RNG.normal(size=(m, n))
    inputs = RNG.normal(size=(tokens, n)) @ RNG.normal(size=(n, n)) * np.logspace(-2, 2, n)
    gram = torch.tensor(inputs.T @ inputs / tokens)
    return weight, inputs, InputStatistics(gram, torch.tensor(np.abs(inputs).mean(0)), tokens)


def loss(weight: np.ndarray, inputs: np.ndarray, approximation: np.ndarray) -> float:
    """Mean squared output error over tokens."""
    return float(np.square(inputs @ (weight - approximation).T).sum() / len(inputs))


def whiten(weight: np.ndarray, statistics: InputStatistics) -> Factors:
    return Whitened().decompose(torch.tensor(weight), statistics)


@pytest.mark.parametrize(("m", "n"), [(12, 16), (16, 12), (9, 9), (5, 24)])
def test_loss_is_the_sum_of_dropped_squared_singular_values(m: int, n: int) -> None:
    weight, inputs, statistics = problem(m, n)
    factors = whiten(weight, statistics)
    assert factors.rank == min(m, n)
    assert factors.rescue is None
    spectrum = factors.spectrum.numpy()
    total = np.square(spectrum).sum()
    for rank in range(1, factors.rank):
        measured = loss(weight, inputs, factors.product(rank).numpy())
        assert measured == pytest.approx(np.square(spectrum[rank:]).sum(), rel=1e-6)
    assert loss(weight, inputs, factors.product().numpy()) < 1e-20 * total


def test_every_prefix_is_the_best_output_of_its_rank() -> None:
    # Eckart-Young on the outputs: no rank-k matrix maps the inputs closer to the outputs.
    weight, inputs, statistics = problem()
    factors = whiten(weight, statistics)
    outputs = np.linalg.svd(inputs @ weight.T / np.sqrt(len(inputs)), compute_uv=False)
    for rank in range(1, 12):
        best = float(np.square(outputs[rank:]).sum())
        assert loss(weight, inputs, factors.product(rank).numpy()) == pytest.approx(best, rel=1e-6)


def test_random_perturbations_of_a_truncation_never_help() -> None:
    weight, inputs, statistics = problem()
    factors = whiten(weight, statistics)
    for rank in (1, 4, 8):
        left, right = factors.left_t[:rank].T.numpy(), factors.right[:rank].numpy()
        best = loss(weight, inputs, left @ right)
        for size in (1e-3, 1e-2, 0.1):
            for _ in range(20):
                other = left + size * np.abs(left).mean() * RNG.normal(size=left.shape)
                turned = right + size * np.abs(right).mean() * RNG.normal(size=right.shape)
                assert loss(weight, inputs, other @ right) >= best
                assert loss(weight, inputs, left @ turned) >= best
                assert loss(weight, inputs, other @ turned) >= best


def test_whitened_beats_svd_on_the_inputs_and_loses_on_the_weight() -> None:
    weight, inputs, statistics = problem()
    ours, plain = whiten(weight, statistics), Svd().decompose(torch.tensor(weight), None)
    a, b = ours.product(5).numpy(), plain.product(5).numpy()
    assert loss(weight, inputs, a) < loss(weight, inputs, b)
    assert np.linalg.norm(weight - b) < np.linalg.norm(weight - a)


def test_cholesky_and_eigenvectors_agree() -> None:
    weight, _, statistics = problem()
    ours = whiten(weight, statistics)
    values, vectors = np.linalg.eigh(statistics.gram.numpy())
    root = vectors * np.sqrt(values)
    left, spectrum, right_t = np.linalg.svd(weight @ root, full_matrices=False)
    np.testing.assert_allclose(ours.spectrum.numpy(), spectrum, rtol=1e-9)
    for rank in (1, 3, 7):
        by_eigen = (left[:, :rank] * spectrum[:rank]) @ right_t[:rank] @ np.linalg.inv(root)
        np.testing.assert_allclose(ours.product(rank).numpy(), by_eigen, rtol=1e-6, atol=1e-9)


def test_root_is_a_root_and_inverse_an_inverse() -> None:
    _, _, statistics = problem()
    root = gram_root(statistics.gram, 1e-14)
    np.testing.assert_allclose(root.root @ root.root.T, statistics.gram, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(root.root @ root.inverse, np.eye(16), atol=1e-8)


@pytest.mark.parametrize("tokens", [1, 5, 15])
def test_fewer_tokens_than_channels_take_the_recorded_fallback(tokens: int) -> None:
    weight, inputs, statistics = problem(m=12, n=16, tokens=tokens)
    factors = whiten(weight, statistics)
    assert factors.rescue is not None
    assert f"{tokens} of 16 directions" in factors.rescue
    spectrum = factors.spectrum.numpy()
    # All ranks exist; those beyond the tokens contribute nothing on them, and lead to W itself.
    assert factors.rank == 12
    np.testing.assert_allclose(factors.product().numpy(), weight, atol=1e-6)
    scale = loss(weight, inputs, np.zeros_like(weight))
    for rank in range(1, factors.rank + 1):
        measured = loss(weight, inputs, factors.product(rank).numpy())
        expected = np.square(spectrum[rank:]).sum()
        assert measured == pytest.approx(expected, rel=1e-6, abs=1e-12 * scale)


def test_a_gram_of_few_tokens_has_the_root_that_all_its_eigenvectors_give() -> None:
    """Channels of very unequal size, as real inputs have them: 60 tokens, 300 channels."""
    draw = np.random.default_rng(11)
    inputs = draw.normal(size=(60, 300)) * np.exp(draw.normal(0, 2, 300))
    weight = draw.normal(size=(40, 300))
    gram = inputs.T @ inputs / 60
    known = InputStatistics(torch.tensor(gram), torch.zeros(300).double(), 60)
    root = gram_root(known.gram, 1e-14, known.tokens)
    assert root.rescue == "singular Gram: eigen path, 60 of 300 directions carry energy"
    assert torch.allclose(root.root, root.root.T)  # unlike that of any other path
    largest = np.linalg.eigvalsh(gram)[-1]
    np.testing.assert_allclose(root.root @ root.root.T, gram, atol=1e-12 * largest)
    np.testing.assert_allclose(root.root @ root.inverse, np.eye(300), atol=1e-7)
    # By numpy, on the tokens themselves: truncating W X^T is truncating W in their metric.
    factors = whiten(weight, known)
    spectrum = np.linalg.svd(weight @ inputs.T / 60**0.5, compute_uv=False)
    np.testing.assert_allclose(factors.spectrum.numpy(), spectrum, rtol=1e-6)
    np.testing.assert_allclose(factors.product().numpy(), weight, atol=1e-6)
    for rank in (1, 10, 30, 39):
        measured = loss(weight, inputs, factors.product(rank).numpy())
        assert measured == pytest.approx(np.square(spectrum[rank:]).sum(), rel=1e-6)
    # The path that does not use tokens gives the same.
    other = truncated(torch.tensor(weight), gram_root(known.gram, 1e-14))
    np.testing.assert_allclose(other.spectrum, factors.spectrum, rtol=1e-6)
    np.testing.assert_allclose(other.product(20), factors.product(20), atol=1e-6)


def test_rounding_of_float32_inputs_is_not_energy() -> None:
    """Products in float32 leave a Gram of 60 tokens with more than 60 eigenvalues above zero."""
    draw = np.random.default_rng(12)
    inputs = (draw.normal(size=(60, 300)) * np.exp(draw.normal(0, 1, 300))).astype(np.float32)
    weight = draw.normal(size=(40, 300))
    seen = InputAccumulator(300)
    seen.add(torch.tensor(inputs))
    known = seen.result()
    factors = whiten(weight, known)
    assert factors.rescue is not None
    assert "60 of 300" in factors.rescue
    spectrum = np.linalg.svd(weight @ inputs.T.astype(float) / 60**0.5, compute_uv=False)
    np.testing.assert_allclose(factors.spectrum.numpy(), spectrum, rtol=1e-4)
    np.testing.assert_allclose(factors.product().numpy(), weight, atol=1e-5)


def test_a_silent_channel_takes_the_fallback() -> None:
    weight, inputs, _ = problem()
    inputs[:, 3] = 0.0
    gram = torch.tensor(inputs.T @ inputs / len(inputs))
    factors = whiten(weight, InputStatistics(gram, torch.zeros(16).double(), len(inputs)))
    assert factors.rescue is not None
    expected = np.square(factors.spectrum.numpy()[6:]).sum()
    assert loss(weight, inputs, factors.product(6).numpy()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gram_that_is_not_finite_is_refused(bad: float) -> None:
    gram = torch.eye(4, dtype=torch.float64)
    gram[1, 2] = gram[2, 1] = bad
    with pytest.raises(ValueError, match="not finite"):
        gram_root(gram, 1e-14)


def test_a_zero_gram_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration input"):
        gram_root(torch.zeros(4, 4), 1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_svd_is_eckart_young(dtype: torch.dtype) -> None:
    weight = torch.tensor(RNG.normal(size=(10, 14))).to(dtype)
    factors = Svd().decompose(weight, None)
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(factors.spectrum.numpy(), values, rtol=1e-10)
    assert factors.left_t.dtype == torch.float64
    for rank in (1, 4, 9):
        error = weight.double().numpy() - factors.product(rank).numpy()
        assert np.square(error).sum() == pytest.approx(np.square(values[rank:]).sum(), rel=1e-9)
        assert np.linalg.matrix_rank(factors.product(rank).numpy()) == rank


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_activation_scaled_is_the_scaled_svd(alpha: float) -> None:
    weight, inputs, statistics = problem()
    factors = ActivationScaled(alpha=alpha, floor=1e-6).decompose(torch.tensor(weight), statistics)
    scale = np.abs(inputs).mean(0) ** alpha + 1e-6
    left, spectrum, right_t = np.linalg.svd(weight * scale, full_matrices=False)
    np.testing.assert_allclose(factors.spectrum.numpy(), spectrum, rtol=1e-10)
    for rank in (1, 5, 12):
        expected = (left[:, :rank] * spectrum[:rank]) @ (right_t[:rank] / scale)
        np.testing.assert_allclose(factors.product(rank).numpy(), expected, rtol=1e-8, atol=1e-12)


def test_activation_scaled_at_alpha_zero_is_svd() -> None:
    weight, _, statistics = problem()
    scaled = ActivationScaled(alpha=0.0).decompose(torch.tensor(weight), statistics)
    plain = Svd().decompose(torch.tensor(weight), None)
    for rank in (1, 5, 11):
        # The floor scales every channel equally, so it cancels.
        np.testing.assert_allclose(scaled.product(rank), plain.product(rank), atol=1e-10)


def test_a_silent_channel_can_be_divided_by() -> None:
    weight, _, statistics = problem()
    statistics.mean_abs[2] = 0.0
    factors = ActivationScaled().decompose(torch.tensor(weight), statistics)
    assert bool(torch.isfinite(factors.right).all())


def test_singular_values_are_split_evenly() -> None:
    weight, _, statistics = problem()
    factors = whiten(weight, statistics)
    # U sqrt(S): the rows of left_t are orthogonal with squared norms S.
    np.testing.assert_allclose(
        factors.left_t @ factors.left_t.T, torch.diag(factors.spectrum), atol=1e-8
    )


def test_relative_error_by_hand() -> None:
    spectrum = torch.tensor([3.0, 2.0, 1.0, 1.0])  # squares 9, 4, 1, 1: 15
    assert relative_error(spectrum, 0) == 1.0
    assert relative_error(spectrum, 1) == pytest.approx((6 / 15) ** 0.5)
    assert relative_error(spectrum, 3) == pytest.approx((1 / 15) ** 0.5)
    assert relative_error(spectrum, 4) == 0.0
    assert relative_error(torch.zeros(3), 1) == 0.0


def test_relative_error_is_that_of_the_outputs() -> None:
    weight, inputs, statistics = problem()
    factors = whiten(weight, statistics)
    outputs = inputs @ weight.T
    wrong = inputs @ (weight - factors.product(4).numpy()).T
    expected = np.linalg.norm(wrong) / np.linalg.norm(outputs)
    assert relative_error(factors.spectrum, 4) == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_decomposed_says_so() -> None:
    with pytest.raises(ValueError, match="Gram matrix"):
        Whitened().decompose(torch.eye(3), None)
    with pytest.raises(ValueError, match="statistics"):
        ActivationScaled().decompose(torch.eye(3), None)
    with pytest.raises(TypeError):
        NoDecomposition().decompose(torch.eye(3), None)
    with pytest.raises(UserError, match="cutoff"):
        Whitened(cutoff=0.0)


def test_from_collected_float32_inputs_the_identity_still_holds() -> None:
    # The whole way a weight takes: float32 activations in chunks, accumulator, factors.
    weight, inputs, _ = problem()
    accumulator = InputAccumulator(16)
    single = torch.tensor(inputs, dtype=torch.float32)
    for chunk in single.split(37):
        accumulator.add(chunk)
    factors = whiten(weight, accumulator.result())
    expected = np.square(factors.spectrum.numpy()[5:]).sum()
    measured = loss(weight, single.double().numpy(), factors.product(5).numpy())
    assert measured == pytest.approx(expected, rel=1e-3)
