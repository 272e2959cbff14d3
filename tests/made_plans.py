"""The plans of a schedule, without a run."""

from __future__ import annotations

from collections.abc import Sequence

from flrc.allocator.base import Allocator
from flrc.allocator.evidence import Evidence
from flrc.allocator.planner import Planner
from flrc.form.base import Form
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.schedule.base import Schedule


def make_plans(
    allocator: Allocator,
    schedule: Schedule,
    targets: Sequence[Target],
    form: Form,
    evidence: Evidence,
    rate: float,
) -> Plans:
    """The constant plan, and those of the schedule's own phases."""
    planner = Planner(allocator, targets, form, evidence)
    return Plans(planner.constant(rate), planner.phases(schedule.phases(rate)))
