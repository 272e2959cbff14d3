"""Ranks from the plan file of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from flrc.allocator.base import Allocator
from flrc.allocator.budget import Budget
from flrc.allocator.evidence import Evidence
from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.form.base import Form
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import phases_from_json
from flrc.plans.target import Target


@dataclass
class Replay(Allocator):
    """Takes the ranks from a ``plan.json``, edited or not, that was made for the same rate.

    Attributes:
        path: ``plan.json`` of an earlier run, possibly edited; it must hold the requested rate.
    """

    name: str = "replay"
    path: str | None = None

    ALLOCATES: ClassVar[bool] = False

    def check(self) -> None:
        """Also checks that the plan file exists."""
        super().check()
        if self.path is None or not Path(self.path).is_file():
            raise UserError(
                "allocator=replay needs the plan file of an earlier run",
                given=f"allocator.path={self.path}",
                allowed="the path of a plan.json",
                fix=f"{as_called('records')} ls lists the runs; each run's folder has a plan.json",
            )

    def describe(self) -> dict[str, Any]:
        """The content of the plan file instead of its path."""
        plans = [plan.to_json() for plan in self._read()]
        return {**super().describe(), "path": None, "plans": plans}

    def _read(self) -> list[RankPlan]:
        """The constant plan, then those of the phases."""
        try:
            content = json.loads(Path(str(self.path)).read_text("utf-8-sig"))
            constant = RankPlan.from_json(content["constant"])
            return [constant, *(plan for _, plan in phases_from_json(content["phases"]))]
        except (
            OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError
        ) as error:  # fmt: skip
            raise UserError(
                "the plan file cannot be read",
                given=f"{self.path} ({type(error).__name__}: {error})",
                allowed="a plan.json as a run writes it",
            ) from error

    def check_reachable(self, targets: Sequence[Target], form: Form, rate: float) -> None:
        """Checks that the file has a plan for this rate and these targets."""
        from flrc.decomposition.factors import ZERO

        # It is not known yet which layers are dead, so rank 0 is accepted everywhere.
        dead = {target.name: ZERO for target in targets}
        self.allocate(Evidence(kept=dead), self.budget(targets, form, rate))

    def allocate(self, evidence: Evidence, budget: Budget) -> RankPlan:
        """The stored ranks, checked against the model's targets."""
        from flrc.decomposition.factors import ZERO

        constant, *phases = self._read()
        # At the same rate the two may differ: a phase must nest in the one before.
        ordered = [constant, *phases] if budget.phase else [*phases, constant]
        plans = {plan.requested: plan for plan in ordered}
        if budget.rate not in plans:
            raise UserError(
                "the plan file has no plan for this rate",
                given=f"rate {budget.rate:g} in {self.path}",
                allowed=", ".join(f"{rate:g}" for rate in sorted(plans)),
            )
        stored = plans[budget.rate]
        ranks = stored.ranks
        names = {target.name for target in budget.targets}
        if set(ranks) != names:
            differing = ", ".join(sorted(set(ranks) ^ names)[:3])
            raise UserError(
                "the plan file was made for a model with other targets",
                given=f"{self.path}: {len(ranks)} targets, differing in {differing}",
                allowed=f"the {len(names)} targets of this model",
            )
        for target, dense in zip(budget.targets, budget.dense_ranks, strict=True):
            rank = ranks[target.name]
            least = 0 if evidence.kept.get(target.name) == ZERO else 1
            if rank is not None and not least <= rank < dense:
                raise UserError(
                    f"the plan file has an impossible rank for {target.name}",
                    given=f"rank {rank} in {self.path}",
                    allowed=f"{least} to {dense - 1} (below break-even), or null for dense",
                )
        plan = RankPlan.of(budget.rate, ranks, budget.targets, budget.form)
        # The ranks of an edited file may no longer meet the rate that they were solved for.
        unedited = abs(plan.realised - stored.realised) < 1e-12
        return replace(plan, exact=stored.exact and unedited)
