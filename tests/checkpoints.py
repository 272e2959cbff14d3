"""Compressed tiny models of every kind that can be saved."""

from __future__ import annotations

from typing import Any

from made_plans import make_plans
from plain_factors import stacked_factors

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import compress
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.switching import activate
from flrc.quantization.int8 import Int8
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive

KINDS = [
    (TwoFactor(), Progressive(), False, False),
    (TwoFactor(), Progressive(), False, True),
    (TwoFactor(), Constant(), True, False),
    (Pivoted(), Constant(), False, True),
    (Pivoted(), Constant(), True, False),
    (Pivoted(), Constant(), True, True),
    (Pivoted(), Progressive(), False, True),
    (Pivoted(), Progressive(), True, False),
]


def built(model: Any, form: Form, schedule: Any, shared: bool, int8: bool) -> Any:
    """Compress a tiny model in place; its targets and plans."""
    targets = find_targets(model)
    targets = Shared().targets(targets) if shared else targets
    plans = make_plans(Uniform(), schedule, targets, form, Evidence(), 0.3)
    # Some phase keeps a layer dense, and one layer is never compressed.
    for plan in plans.all:
        plan.ranks[targets[-1].name] = None
    if len(plans.phases) > 1:
        plans.phases[0][1].ranks[targets[0].name] = None
    compress(model, targets, plans.all, form, stacked_factors(model, targets))
    if int8:
        Int8().quantize(model, targets)
    activate(model, plans.constant)
    return targets, plans
