"""Input statistics and gradients against plain forward passes, numpy and autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY_SHAPES

from flrc.calibration.dense_model import DenseModel
from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.sequence_loss import sequence_loss
from flrc.calibration.statistics import InputAccumulator, gradient_sums
from flrc.calibration.weight_gradients import aggregated, per_sequence
from flrc.errors import UserError
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.targets import find_targets
from flrc.sensitivity.fisher import Fisher
from flrc.sensitivity.gradient import Gradient
from flrc.sensitivity.weight import Weight


def test_accumulator_is_numpy_however_it_is_cut() -> None:
    x = torch.randn(3, 17, 6, dtype=torch.float64)
    flat = x.reshape(-1, 6).numpy()
    whole, rows, parts = (InputAccumulator(6) for _ in range(3))
    whole.add(x)
    for row in x:
        rows.add(row)
    parts.add(x[:1])
    parts.add(x[1:])
    for accumulator in (whole, rows, parts):
        result = accumulator.result()
        assert result.tokens == 51
        np.testing.assert_allclose(result.gram, flat.T @ flat / 51, rtol=1e-12)
        np.testing.assert_allclose(result.mean_abs, np.abs(flat).mean(0), rtol=1e-12)
        assert result.gram.dtype == torch.float64


def test_half_precision_inputs_do_not_overflow() -> None:
    accumulator = InputAccumulator(2)
    accumulator.add(torch.full((100, 2), 300.0, dtype=torch.float16))  # 300 ** 2 > 65504
    assert accumulator.result().gram.tolist() == [[90000.0, 90000.0], [90000.0, 90000.0]]


def test_what_cannot_be_averaged_shows() -> None:
    accumulator = InputAccumulator(3)
    assert accumulator.result().finite
    accumulator.add(torch.tensor([[1.0, float("nan"), 0.0]]))
    assert not accumulator.result().finite


def test_a_layer_that_no_token_reaches_has_no_tokens() -> None:
    known = InputAccumulator(3).result()
    assert known.tokens == 0
    assert not known.gram.any()


@pytest.mark.parametrize("size", [1e-30, 1e-42, 1e25])
def test_tiny_and_huge_inputs_are_neither_zero_nor_infinite(size: float) -> None:
    """Their squares exceed the range of float32."""
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)) * size
    accumulator = InputAccumulator(5)
    accumulator.add(x)
    exact = x.double().numpy()
    np.testing.assert_allclose(accumulator.result().gram, exact.T @ exact / 40, rtol=1e-12, atol=0)
    w = torch.full((40, 5), 2.0)
    sums = gradient_sums(x, w, 10)
    assert sums.gradient == pytest.approx((exact**2).sum() / 10, rel=1e-6)
    assert sums.importance == pytest.approx(4 * (exact**2).sum() / 10, rel=1e-6)


@pytest.mark.parametrize("shape", TINY_SHAPES)
def test_block_by_block_sees_what_a_plain_forward_sees(
    shape: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    # Longer than the sliding window of 16, so that a wrong mask would show.
    model = make_model(shape, "float64")
    targets = find_targets(model)
    seen: dict[str, list[np.ndarray]] = {target.name: [] for target in targets}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _m, args, name=name: seen[name].append(args[0][0].numpy().copy())
        )
        for name in seen
    ]
    with torch.no_grad():
        for sequence in sequences:
            model(input_ids=sequence[None], use_cache=False)
    for handle in handles:
        handle.remove()

    found: dict[str, Any] = {}
    order = []
    for block, statistics in input_statistics(model, targets, sequences):
        order.append(block)
        assert set(statistics) == {t.input_group for t in targets if t.block == block}
        found |= statistics
    assert order == [0, 1, 2]
    for target in targets:  # every member of a group, not only its leader
        x = np.concatenate(seen[target.name])
        statistics = found[target.input_group]
        assert statistics.tokens == len(x) == 120
        scale = np.abs(x.T @ x).max() / len(x)
        np.testing.assert_allclose(statistics.gram, x.T @ x / len(x), rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(statistics.mean_abs, np.abs(x).mean(0), rtol=1e-9)


def test_shapes_mix_window_and_full_attention(make_model: Callable[..., Any]) -> None:
    # What the test above rests on: the tiny Gemma 3 really attends differently in its blocks.
    model = make_model("tiny_gemma3", "float64")
    assert model.config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]
    assert model.config.sliding_window == 16


@pytest.mark.parametrize("fails", [False, True])
def test_blocks_are_as_before(
    fails: bool, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    _, blocks = decoder_blocks(model)
    with torch.no_grad():
        before = model(input_ids=sequences[0][None]).logits
    if fails:

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("broken")

        model.model.norm.forward = broken  # after the blocks recorded their arguments
        with pytest.raises(UserError, match="LlamaForCausalLM: RuntimeError: broken"):
            list(input_statistics(model, targets, sequences))
        del model.model.norm.forward
    else:
        list(input_statistics(model, targets, sequences))
    assert not any("forward" in vars(block) for block in blocks)
    assert not any(model.get_submodule(t.name)._forward_pre_hooks for t in targets)
    with torch.no_grad():
        assert torch.equal(model(input_ids=sequences[0][None]).logits, before)


def test_hooks_go_when_collecting_is_given_up(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    blocks = input_statistics(model, targets, sequences)
    next(blocks)
    blocks.close()
    assert not any(model.get_submodule(t.name)._forward_pre_hooks for t in targets)


def gradients_by_hand(
    model: Any, names: list[str], sequence: torch.Tensor
) -> dict[str, np.ndarray]:
    """Gradient of the summed token loss, written out without code of this package."""
    weights = [model.get_submodule(name).weight for name in names]
    for weight in weights:
        weight.requires_grad_(True)
    log_p = torch.log_softmax(model(input_ids=sequence[None]).logits[0], dim=-1)
    loss = -sum(log_p[t, sequence[t + 1]] for t in range(len(sequence) - 1))
    grads = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return {name: grad.numpy() for name, grad in zip(names, grads, strict=True)}


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_gradient_statistics_are_autograds(
    shape: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model(shape, "float64")
    targets = find_targets(model)
    names = [t.name for t in targets]
    by_hand = [gradients_by_hand(model, names, s) for s in sequences]
    each, total = per_sequence(model, targets, sequences), aggregated(model, targets, sequences)
    assert list(each) == names
    assert set(total) == set(names)
    predicted = [39, 22, 56]
    for name in names:
        weight = model.get_submodule(name).weight.numpy()
        grads = [g[name] for g in by_hand]
        assert each[name].importance == pytest.approx(
            sum(np.square(g * weight).sum() / n for g, n in zip(grads, predicted, strict=True)),
            rel=1e-5,
        )
        assert each[name].gradient == pytest.approx(
            sum(np.square(g).sum() / n for g, n in zip(grads, predicted, strict=True)), rel=1e-5
        )
        whole = sum(grads)
        assert total[name].importance == pytest.approx(
            np.square(whole * weight).sum() / sum(predicted), rel=1e-5
        )
        assert total[name].gradient == pytest.approx(
            np.square(whole).sum() / sum(predicted), rel=1e-5
        )


def test_sequence_loss_is_the_sum_over_predictions(make_model: Callable[..., Any]) -> None:
    model = make_model(dtype="float64")
    ids = torch.arange(10)
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1).numpy()
        expected = -sum(log_p[t, t + 1] for t in range(9))
        assert float(sequence_loss(model, ids)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("reduce", [per_sequence, aggregated])
def test_nothing_is_left_of_the_backward_pass(
    reduce: Callable[..., Any], make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    reduce(model, targets, sequences[:1])
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
        assert not parameter._post_accumulate_grad_hooks


@pytest.mark.parametrize("reduce", [per_sequence, aggregated])
def test_a_loss_that_is_not_finite_stops_and_leaves_no_gradient(
    reduce: Callable[..., Any], make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(UserError, match="logits on the calibration sequences are not finite"):
        reduce(model, targets, sequences)
    for parameter in model.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad
        assert not parameter._post_accumulate_grad_hooks


def test_at_most_one_gradient_exists_at_a_time(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    targets = find_targets(model)
    weights = [model.get_submodule(t.name).weight for t in targets]
    most = 0

    def count(*_: Any) -> None:
        nonlocal most
        most = max(most, sum(weight.grad is not None for weight in weights))

    handles = []
    for weight in weights:
        weight.requires_grad_(True)
        handles.append(weight.register_post_accumulate_grad_hook(count))
        weight.requires_grad_(False)
    per_sequence(model, targets, sequences[:1])
    assert most == 1


def test_gradient_sums_by_hand() -> None:
    found = gradient_sums(torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 0.5]]), 4)
    assert found.importance == pytest.approx((9 + 1) / 4)
    assert found.gradient == pytest.approx((1 + 4) / 4)
    # The square of 1e-5 is 0 in float16.
    tiny = gradient_sums(torch.full((1, 2), 1e-4).half(), torch.ones(1, 2).half(), 1)
    assert tiny.gradient == pytest.approx(2e-8, rel=0.01)


def test_scores_of_the_paper(make_model: Callable[..., Any], sequences: list[torch.Tensor]) -> None:
    """Equations 1, 4 and 5 on one sequence."""
    model = make_model(dtype="float64")
    targets = find_targets(model)
    one = sequences[:1]
    by_hand = gradients_by_hand(model, [t.name for t in targets], one[0])
    reductions = {"per_sequence": per_sequence, "aggregate": aggregated}
    dense = DenseModel(model, targets, one)

    def gradients(reduction: str) -> Any:
        return reductions[reduction](model, targets, one)

    for reduction in reductions:
        fisher = Fisher(reduction=reduction).score(dense, gradients)
        gradient = Gradient(reduction=reduction).score(dense, gradients)
        for name, g in by_hand.items():
            weight = model.get_submodule(name).weight.numpy()
            assert fisher[name] == pytest.approx(np.square(g * weight).sum() / 39, rel=1e-5)
            assert gradient[name] == pytest.approx(np.square(g).sum() / 39, rel=1e-5)
    for name, score in Weight().score(dense, gradients).items():
        weight = model.get_submodule(name).weight.numpy()
        assert score == pytest.approx(np.linalg.norm(weight) ** 2, rel=1e-10)
