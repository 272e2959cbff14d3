"""Gradients of the factors against those of the dense weights that they stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from healing import FORMS, case, sequences
from tiny import make_model
from torch import Tensor, nn

from flrc.healing.blockwise import Blockwise
from flrc.healing.course import Course
from flrc.healing.distilled import Distilled
from flrc.healing.end_to_end import NextTokens, batches
from flrc.healing.trained import Trained
from flrc.healing.tuning import Objective
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.models.layers.pivoted_linear import PivotedLinear

MODULES = {"distilled": "end_to_end", "blockwise": "block_tuning"}


class Caught(Exception):
    """The gradients are known."""


def dense_weight(layer: FactoredLinear) -> Tensor:
    """The product of a layer's factors."""
    return layer(torch.eye(layer.in_features, dtype=torch.float64)).T - (
        0 if layer.bias is None else layer.bias[:, None]
    )


def by_chain_rule(layer: FactoredLinear, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the left and the input-side factor, from that of the dense weight."""
    left = layer.left_t.dense()
    if isinstance(layer, LowRankLinear):
        return layer.right.dense() @ gradient.T, left @ gradient
    assert isinstance(layer, PivotedLinear)
    rank = layer.left_t.count
    pivots, rest = layer.order[:rank].long(), layer.order[rank:].long()
    of_left = gradient[:, pivots] + gradient[:, rest] @ layer.coefficients.dense().T
    return of_left.T, left @ gradient[:, rest]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
def test_gradients(form: str, shape: str, tmp_path: Path) -> None:
    """Autograd on a dense model with the products as weights, KL of all tokens at once."""
    made = case(tmp_path, form, shape=shape)
    given, model = made.given, made.model
    seen, unseen = given.lessons(Distilled(generated=0))
    dense = make_model(shape, "float64")
    given.replace(given.dense.targets)
    trained = Trained.of(model, model, Distilled())
    objective = NextTokens(model, seen, unseen, given.plans, Distilled(chunk=5), 0)
    with trained.requiring_grad():
        loss = objective.backward(0)
        found = {name: p.grad.clone() for name, p in trained.parameters.items()}

    plain = make_model(shape, "float64")
    layers = low_rank_layers(model)
    for name, layer in layers.items():
        plain.get_submodule(name).weight.data = dense_weight(layer)
        plain.get_submodule(name).weight.requires_grad_(True)
    (index,) = batches(len(seen.sequences), 1, 0, 0)
    ids = seen.sequences[index][None]
    p = nn.functional.log_softmax(dense(input_ids=ids).logits, -1)
    q = nn.functional.log_softmax(plain(input_ids=ids).logits, -1)
    at_once = nn.functional.kl_div(q, p, reduction="sum", log_target=True) / ids.numel()
    at_once.backward()
    assert loss == pytest.approx(float(at_once.detach()), rel=1e-10)

    names = {id(parameter): name for name, parameter in trained.parameters.items()}
    expected: dict[str, Tensor] = {}
    for name, layer in layers.items():
        gradient = plain.get_submodule(name).weight.grad
        parts = zip((layer.left_t, layer.input_rows), by_chain_rule(layer, gradient), strict=True)
        for rows, of_rows in parts:
            own = names[id(rows.values)]
            expected[own] = expected.get(own, 0) + of_rows
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-10)
        assert gradient.abs().max() > 1e-8


@pytest.mark.parametrize("kind", ["distilled", "blockwise"])
def test_every_token_of_a_step_counts_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In sequences of other lengths, too: the loss and its gradients are means over tokens."""
    made = case(tmp_path)
    lengths = (3, 12)
    short = [ids[:length] for ids, length in zip(sequences(2), lengths, strict=True)]
    given = replace(made.given, dense=replace(made.given.dense, sequences=short))
    caught: dict[int, tuple[float, dict[str, Tensor]]] = {}

    def tune(objective: Objective, trained: Trained, *_: object) -> Course:
        settings = objective.settings  # type: ignore[attr-defined]
        for size in (1, 2):
            object.__setattr__(settings, "batch_size", size)
            for step in range(2 // size):
                with trained.requiring_grad():
                    loss = objective.backward(step)
                    found = {n: p.grad.clone() for n, p in trained.parameters.items()}  # type: ignore[union-attr]
                (which, *more) = batches(2, size, step, 0)
                caught[-1 if more else which] = (loss, found)
        raise Caught

    monkeypatch.setattr(f"flrc.healing.{MODULES[kind]}.tune", tune)
    settings = Distilled(generated=0) if kind == "distilled" else Blockwise()
    with pytest.raises(Caught):
        settings.heal(given)
    assert caught.keys() == {0, 1, -1}
    shares = [length / sum(lengths) for length in lengths]
    loss, found = caught[-1]
    assert loss == pytest.approx(sum(shares[i] * caught[i][0] for i in (0, 1)), rel=1e-9)
    for name, gradient in found.items():
        expected = sum(shares[i] * caught[i][1][name] for i in (0, 1))
        assert isinstance(expected, Tensor)
        noise = 1e-5 * float(expected.abs().max())  # norms are computed in float32
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=noise)
