"""What the pipeline relies on from groupings, sensitivities and allocators."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.allocator.divergence import Divergence
from flrc.allocator.evidence import Evidence
from flrc.allocator.planner import Planner
from flrc.calibration.dense_model import DenseModel
from flrc.calibration.weight_gradients import aggregated, per_sequence
from flrc.config import components
from flrc.errors import UserError
from flrc.models.anatomy.targets import find_targets
from flrc.plans.target import Target

SHAPES = {
    "q_proj": (256, 256, "q_proj"),
    "k_proj": (96, 256, "q_proj"),
    "v_proj": (96, 256, "q_proj"),
    "o_proj": (256, 256, "o_proj"),
    "gate_proj": (512, 256, "gate_proj"),
    "up_proj": (512, 256, "gate_proj"),
    "down_proj": (256, 512, "down_proj"),
}
"""Of one block: outputs, inputs, and who reads the same input."""
LAYERS = [
    Target(f"model.layers.{b}.{name}", m, n, b, name, f"model.layers.{b}.{leader}")
    for b in range(2)
    for name, (m, n, leader) in SHAPES.items()
]


class FakeProbe:
    """A model whose loss rises with the truncated energy, more so for layers further down."""

    dense = Divergence(2.0, 0.0)

    def __init__(self, targets: Sequence[Target]) -> None:
        self.weight = {t.name: (1 + i % 3) / min(t.d_out, t.d_in) for i, t in enumerate(targets)}
        self.full = {t.name: min(t.d_out, t.d_in) for t in targets}

    def _cut(self, name: str, rank: int) -> float:
        assert type(rank) is int
        assert 1 <= rank <= self.full[name]
        return self.weight[name] * (self.full[name] - rank) ** 2 / self.full[name]

    def announce(self, what: str, candidates: Any = None, plans: int = 0) -> None:
        """Says nothing."""

    def single(self, candidates: Mapping[str, Sequence[int]]) -> dict[str, list[Divergence]]:
        return {
            name: [Divergence(2 + self._cut(name, rank), self._cut(name, rank)) for rank in ranks]
            for name, ranks in candidates.items()
        }

    def plan(self, ranks: Mapping[str, int | None]) -> Divergence:
        kl = sum(self._cut(name, rank) for name, rank in ranks.items() if rank is not None)
        return Divergence(2 + kl, kl)


def evidence_of(allocator: Any, targets: Sequence[Target]) -> Evidence:
    """What the allocator declares that it reads, and nothing else."""
    given: dict[str, Any] = {}
    if allocator.SCORED:
        given["scores"] = {t.name: float(10 ** (i % 4)) for i, t in enumerate(targets)}
    if allocator.SPECTRAL:
        spectra = {
            t.name: 5 * torch.arange(1, min(t.d_out, t.d_in) + 1).double() ** -(0.3 + 0.2 * (i % 4))
            for i, t in enumerate(targets)
        }
        given["spectrum"] = spectra.__getitem__
    if allocator.PROBES:
        given["probe"] = lambda _samples: FakeProbe(targets)
    return Evidence(**given)


def make_allocator(
    name: str, tmp_path: Path, targets: Sequence[Target], form: Any, rate: float
) -> Any:
    if name != "replay":
        made: Any = components("allocator")[name]()
        if hasattr(made, "trials"):
            made.trials = 3  # whatever a search finds must meet the budget
        return made
    uniform: Any = components("allocator")["uniform"]()
    plan = uniform.allocate(Evidence(), uniform.budget(targets, form, rate)).to_json()
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"constant": plan, "phases": []}))
    return components("allocator")[name](path=str(path))


@pytest.mark.parametrize("name", components("allocator"))
@pytest.mark.parametrize("form_name", components("form"))
@pytest.mark.parametrize("grouping", components("grouping"))
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.5, 0.8])
def test_allocators_meet_the_budget(
    name: str, form_name: str, grouping: str, rate: float, tmp_path: Path
) -> None:
    form: Any = components("form")[form_name]()
    targets = components("grouping")[grouping]().targets(LAYERS)  # type: ignore[attr-defined]
    allocator = make_allocator(name, tmp_path, targets, form, rate)
    try:
        allocator.check_reachable(targets, form, rate)
    except UserError:  # reported before any work; the papers' rates must be reachable
        assert rate not in (0.1, 0.2) or grouping == "shared"
        return
    plan = allocator.allocate(
        evidence_of(allocator, targets), allocator.budget(targets, form, rate)
    )
    assert set(plan.ranks) == {t.name for t in targets}
    dense = sum(t.dense for t in targets)
    used = sum(
        t.dense if plan.ranks[t.name] is None else form.cost(plan.ranks[t.name], t) for t in targets
    )
    assert plan.exact
    assert used <= (1 - rate) * dense * (1 + 1e-12)
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    assert plan.realised - rate <= max(form.cost(2, t) - form.cost(1, t) for t in targets) / dense
    for t in targets:
        rank = plan.ranks[t.name]
        assert rank is None or (1 <= rank < form.dense_rank(t) and form.cost(rank, t) < t.dense)


@pytest.mark.parametrize("name", components("allocator"))
@pytest.mark.parametrize("form_name", components("form"))
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_allocators_share_out_what_dead_layers_leave(
    name: str, form_name: str, rate: float, tmp_path: Path
) -> None:
    """They neither read scores and spectra of dead layers, which do not exist, nor probe them."""
    if name == "replay":
        return  # gives the ranks that it is given
    form: Any = components("form")[form_name]()
    kept = {LAYERS[1].name: "dense", LAYERS[5].name: "zero", LAYERS[6].name: "zero"}
    living = [target for target in LAYERS if target.name not in kept]
    allocator = make_allocator(name, tmp_path, LAYERS, form, rate)
    evidence = replace(evidence_of(allocator, living), kept=kept)
    plan = Planner(allocator, LAYERS, form, evidence).constant(rate)
    assert list(plan.ranks) == [target.name for target in LAYERS]
    assert plan.ranks[LAYERS[1].name] is None
    dense = sum(t.dense for t in LAYERS)
    dead = 0
    for target in (LAYERS[5], LAYERS[6]):  # in order, as far as the rate allows
        dead += target.dense
        assert plan.ranks[target.name] == (0 if dead <= rate * dense else None)
    used = sum(
        t.dense if (rank := plan.ranks[t.name]) is None else form.cost(rank, t) for t in LAYERS
    )
    assert plan.realised == pytest.approx(1 - used / dense, abs=1e-12)
    step = max(form.cost(2, t) - form.cost(1, t) for t in LAYERS) / dense
    assert -1e-12 <= plan.realised - rate <= step


@pytest.mark.parametrize("name", components("sensitivity"))
def test_sensitivities_of_a_model_with_a_dead_layer(
    name: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    """Scores are finite for all, and 0 without a weight or a gradient, except for estimates."""
    model = make_model()
    model.get_submodule("model.layers.1.self_attn.o_proj").weight.data.zero_()
    targets = find_targets(model)
    reductions = {"per_sequence": per_sequence, "aggregate": aggregated}
    sensitivity: Any = components("sensitivity")[name]()
    scores = sensitivity.score(
        DenseModel(model, targets, sequences[:1] if sensitivity.CALIBRATED else []),
        lambda reduction: reductions[reduction](model, targets, sequences[:1]),
    )
    assert all(math.isfinite(score) and score >= 0 for score in scores.values())
    silent = {n.rpartition(".")[2] for n, s in scores.items() if s == 0 and ".1.self" in n}
    assert silent == {
        "weight": {"o_proj"},
        "fisher": {"q_proj", "k_proj", "v_proj", "o_proj"},
        "gradient": {"q_proj", "k_proj", "v_proj"},
    }.get(name, set())


@pytest.mark.parametrize("name", components("sensitivity"))
@pytest.mark.parametrize("grouping", components("grouping"))
def test_sensitivities_score_every_target(
    name: str, grouping: str, make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    model = make_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layers = find_targets(model)
    targets = components("grouping")[grouping]().targets(layers)  # type: ignore[attr-defined]
    reductions = {"per_sequence": per_sequence, "aggregate": aggregated}
    asked = []

    def gradients(reduction: str) -> Any:
        asked.append(reduction)
        found = reductions[reduction](model, layers, sequences[:1])
        return {target.name: found[target.layers[0].name] for target in targets}

    sensitivity: Any = components("sensitivity")[name]()
    given = sequences if sensitivity.CALIBRATED else []
    scores = sensitivity.score(DenseModel(model, targets, given), gradients)
    assert bool(asked) <= sensitivity.CALIBRATED  # gradients are read only by calibrated scores
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if name == "none":
        assert scores == {}
        return
    assert set(scores) == {t.name for t in targets}
    assert all(type(s) is float and math.isfinite(s) and s >= 0 for s in scores.values())
    assert sum(scores.values()) > 0


@pytest.mark.parametrize("name", components("grouping"))
@pytest.mark.parametrize("shape", ["tiny_llama", "tiny_qwen2"])
def test_groupings_partition_the_layers(
    name: str, shape: str, make_model: Callable[..., Any]
) -> None:
    grouping: Any = components("grouping")[name]()
    model = make_model(shape)
    layers = find_targets(model)
    for found in (layers, LAYERS):
        targets = grouping.targets(found)
        assert sorted(t.name for target in targets for t in target.layers) == sorted(
            t.name for t in found
        )
        assert len({target.name for target in targets}) == len(targets)
        assert sum(target.dense for target in targets) == sum(t.dense for t in found)
        # A group reads one input and takes the place of its first layer.
        for target in targets:
            assert {t.input_group for t in target.layers} == {target.input_group}
            assert target.d_out == sum(t.d_out for t in target.layers)
        places = [found.index(target.layers[0]) for target in targets]
        assert places == sorted(places)
    for target in grouping.targets(layers):
        assert target.weight(model).shape == (target.d_out, target.d_in)
