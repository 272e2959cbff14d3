"""Models under a schedule, and short generations."""

from __future__ import annotations

from typing import Any

import torch
from made_plans import make_plans

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.decomposition.svd import Svd
from flrc.evaluation.reply_generation import up_to_end
from flrc.form.surgery import compress
from flrc.form.two_factor import TwoFactor
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.switching import activate
from flrc.plans.run_plans import Plans
from flrc.plans.target import Target
from flrc.runtime.decoding import Decoder
from flrc.schedule.base import Schedule

FORM = TwoFactor()


def compressed(
    model: Any, schedule: Schedule, rate: float = 0.3, **allocator: Any
) -> tuple[list[Target], Plans]:
    targets = find_targets(model)
    plans = make_plans(Uniform(**allocator), schedule, targets, FORM, Evidence(), rate)
    weights = {t.name: model.get_submodule(t.name).weight.data.clone() for t in targets}

    def factors(name: str, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = Svd().decompose(weights[name], None)
        return found.left_t[:rank], found.right[:rank]

    compress(model, targets, plans.all, FORM, factors)
    activate(model, plans.constant)
    return targets, plans


def prompt(length: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(seed))


def generate(decoder: Decoder, ids: torch.Tensor, new: int) -> list[int]:
    output = decoder.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new
    )
    return up_to_end(output[0].tolist(), set(decoder.end_tokens()))
