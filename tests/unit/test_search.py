"""The search for a schedule in runs of a tiny model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.errors import UserError
from flrc.pipeline import run
from flrc.plans.phase import Phase
from flrc.running.identity import run_id

SEARCH = (
    "search=halving",
    "search.samples=4",
    "search.rounds=2",
    "search.switches=[1,6]",
    "search.drops=[0.1]",
    "search.max_new_tokens=12",
    "search.batch_size=2",
    "search.max_prompt_tokens=400",
    "model.save=true",  # else the search would be deferred
)


def plan_of(config: Any) -> dict[str, Any]:
    (path,) = Path(config.paths.runs).rglob("plan.json")
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_a_run_searches_and_keeps_what_it_found(
    run_config: Callable[..., Any], generated: list[int]
) -> None:
    config = run_config("method=flrc", "rate=0.3", *SEARCH)
    record = run(config)
    assert record.run["status"] == "ok", record.run
    plan = plan_of(config)
    rows = plan["candidates"]
    assert [row["fate"] for row in rows].count("chosen") == 1
    assert {(row["switch"], row["drop"]) for row in rows} == {(0, 0.0), (1, 0.1), (6, 0.1)}
    chosen = rows[0]
    assert [phase["rate"] for phase in plan["phases"]] == [p["rate"] for p in chosen["phases"]]
    best = [row["score"] for row in rows if row["items"] == 4]
    assert chosen["score"] == max(best)
    assert chosen["rate"] == pytest.approx(0.3, abs=0.03)
    cost = record.results["schedule_search"]
    assert cost["replies"] >= 3 * 2 + 2 * 2
    seconds = record.meta["schedule_search_seconds"]
    assert seconds["all"] >= seconds["now"] > 0

    # Again, with additional drops: known replies are not generated a second time.
    generated.clear()
    again = run(run_config("method=flrc", "rate=0.3", "force=true", *SEARCH))
    assert generated == []
    assert again.results["phases"] == record.results["phases"]
    run(run_config("method=flrc", "rate=0.3", *SEARCH[:4], *SEARCH[5:], "search.drops=[0.1,0.2]"))
    assert 0 < sum(generated) <= 2 * 2 + 2 * 2


def test_increasing_competes_without_constant(run_config: Callable[..., Any]) -> None:
    config = run_config("method=flrc", "rate=0.3", "schedule=increasing", *SEARCH)
    record = run(config)
    assert record.run["status"] == "ok", record.run
    rows = plan_of(config)["candidates"]
    assert {(row["switch"], row["drop"]) for row in rows} == {(1, -0.1), (6, -0.1)}
    first, second = record.results["phases"]
    assert first["requested"] > second["requested"]
    assert second["step"] in (1, 6)


def test_storage_is_capped(run_config: Callable[..., Any]) -> None:
    config = run_config("method=plrd", "rate=0.3", "search.stored=0.72", *SEARCH)
    record = run(config)
    assert record.run["status"] == "ok", record.run
    rows = plan_of(config)["candidates"]
    assert rows[0]["drop"] == 0
    assert all("stores" in row["fate"] for row in rows[1:])


def test_the_model_is_dense_again_after_a_trial(
    make_model: Callable[..., Any], sequences: list[torch.Tensor]
) -> None:
    from flrc.allocator.evidence import Evidence
    from flrc.allocator.planner import Planner
    from flrc.allocator.uniform import Uniform
    from flrc.form.surgery import compressed
    from flrc.form.two_factor import TwoFactor
    from flrc.models.anatomy.targets import find_targets

    model = make_model()
    before = copy.deepcopy(model.state_dict())
    logits = model(input_ids=sequences[0][None]).logits
    targets = find_targets(model)
    planner = Planner(Uniform(), targets, TwoFactor(), Evidence())
    plan = planner.constant(0.3)

    def factors(name: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        m, n = model.get_submodule(name).weight.shape
        return torch.ones(rank, m), torch.ones(rank, n)

    with compressed(model, targets, [plan], planner.form, factors):
        assert not torch.allclose(model(input_ids=sequences[0][None]).logits, logits)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(input_ids=sequences[0][None]).logits, logits)


def test_a_plan_is_allocated_once() -> None:
    from flrc.allocator.budget import Budget
    from flrc.allocator.evidence import Evidence
    from flrc.allocator.planner import Planner
    from flrc.allocator.uniform import Uniform
    from flrc.form.two_factor import TwoFactor
    from flrc.plans.target import Target

    asked: list[float] = []

    class Counted(Uniform):
        def allocate(self, evidence: Evidence, budget: Budget) -> Any:
            asked.append(budget.rate)
            return super().allocate(evidence, budget)

    planner = Planner(Counted(), [Target("t", 60, 90, 0, "q_proj", "t")], TwoFactor(), Evidence())
    two = [Phase(0.0, 0.2), Phase(0.0, 0.4, step=3)]
    plans = planner.phases(two)
    assert planner.phases([two[0], Phase(0.0, 0.4, step=9)])[1][1] is plans[1][1]
    assert asked == [0.2, 0.4]
    planner.constant(0.4)  # not bounded by another phase: its own plan
    assert planner.phases([Phase(0.0, 0.4)])[0][1] is planner.constant(0.4)
    assert asked == [0.2, 0.4, 0.4]


def test_what_is_refused_before_work(run_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="must not be chosen on the split that it is evaluated on"):
        run(run_config("method=flrc", *SEARCH, "search.split=test"))
    with pytest.raises(UserError, match="too few items to search on"):
        run(run_config("method=flrc", "search=halving", "search.samples=400", "model.save=true"))
    with pytest.raises(UserError, match="switches"):
        run_config("method=flrc", "search=halving", "search.switches=[48]")


def test_a_form_that_is_not_nested_is_searched_too(run_config: Callable[..., Any]) -> None:
    """As two factors, the same product; then every rank is stored by itself."""
    record = run(run_config("method=flrc_kfac_skip", *SEARCH, "rate=0.3"))
    assert record.run["status"] == "ok", record.run
    phases = record.results["phases"]
    assert record.results["schedule_search"]["replies"] > 0
    for phase in phases:
        assert phase["realised"] == pytest.approx(phase["requested"], abs=0.01)
    stored, dense = (record.results["parameters"][f"targets_{k}"] for k in ("stored", "dense"))
    if len(phases) > 1:
        assert stored > dense * sum(1 - phase["realised"] for phase in phases) * 0.9


def test_the_id_holds_what_the_search_reads(run_config: Callable[..., Any]) -> None:
    base = run_id(run_config("method=flrc", *SEARCH))
    assert run_id(run_config("method=flrc", *SEARCH, "search.samples=5")) != base
    assert run_id(run_config("method=flrc", "search=none")) != base
    # Given offsets are not read where phases are searched, nor is a batch size ever.
    offsets = "schedule.offsets=[-0.05,0.05]"
    assert run_id(run_config("method=flrc", *SEARCH, offsets)) == base
    assert run_id(run_config("method=flrc", *SEARCH, "search.batch_size=3")) == base
    constant = run_id(run_config("method=flra", "search=none"))
    assert run_id(run_config("method=flra", *SEARCH)) == constant
