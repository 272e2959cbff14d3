"""Gradients of the factors against those of the dense weights that they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from healing import FORMS, case
from tiny import make_model
from torch import Tensor, nn

from flrc.healing.distilled import Distilled
from flrc.healing.end_to_end import NextTokens, batches
from flrc.healing.trained import Trained
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.models.layers.pivoted_linear import PivotedLinear


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
