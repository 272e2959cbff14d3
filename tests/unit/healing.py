"""Small compressed models for the tests of healing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from plain_factors import stacked_factors
from tiny import make_model
from torch import Tensor

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import Entry
from flrc.form import surgery
from flrc.form.base import Form
from flrc.form.pivoted import Pivoted
from flrc.form.two_factor import TwoFactor
from flrc.grouping.separate import Separate
from flrc.grouping.shared import Shared
from flrc.healing.draws import tuned_plans
from flrc.healing.healing_input import HealingInput
from flrc.models.anatomy.targets import find_targets
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target

FORMS: dict[str, tuple[Form, bool]] = {
    "two_factor": (TwoFactor(), False),
    "shared": (TwoFactor(), True),
    "pivoted": (Pivoted(), False),
    "pivoted, shared": (Pivoted(), True),
}
"""Name -> form, and whether layers with a common input share the right factor."""


def sequences(count: int, length: int = 12, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 250, (length,), generator=draw) for _ in range(count)]


@dataclass
class Case:
    """A dense tiny model with everything that healing is given."""

    given: HealingInput
    plans: Plans

    @property
    def model(self) -> Any:
        return self.given.dense.model


def case(
    folder: Path,
    form: str = "two_factor",
    dtype: str = "float64",
    shape: str = "tiny_llama_gqa",
    ranks: Sequence[int] = (6,),
    seen: int = 4,
    spread: float = 0.2,
) -> Case:
    """The first of ``ranks`` is the constant plan's; all are phases, if there are several."""
    model = make_model(shape, dtype, spread)
    stored, grouped = FORMS[form]
    targets = (Shared() if grouped else Separate()).targets(find_targets(model))
    factors = stacked_factors(model, targets)
    made = [
        RankPlan.of(0.5, dict.fromkeys([t.name for t in targets], r), targets, stored)
        for r in ranks
    ]
    phases = [(Phase(i / len(made), 0.5), plan) for i, plan in enumerate(made)]
    plans = Plans(made[0], phases)
    folder.mkdir(parents=True, exist_ok=True)

    def replace(chosen: Sequence[Target]) -> None:
        surgery.compress(model, chosen, plans.all, stored, factors)

    given = HealingInput(
        DenseModel(model, targets, sequences(seen)), sequences(2, seed=1),
        tuned_plans(plans, 100), stored, replace, Entry(folder, {}),
        lambda settings: Entry(folder / f"generated {settings.drawn}", {}), recomputed=False,
    )  # fmt: skip
    return Case(given, plans)
