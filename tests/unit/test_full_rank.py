"""At full rank every decomposition, grouping and form returns the dense model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.calibration.dense_model import DenseModel
from flrc.config import components
from flrc.core.cache import StageCache
from flrc.decomposition.statistics import Statistics
from flrc.form.surgery import compress
from flrc.models.anatomy.targets import find_targets
from flrc.plans.rank_plan import RankPlan
from flrc.running.factors import factorise
from flrc.running.profiling import Stages

DECOMPOSITIONS = [name for name in components("decomposition") if name != "none"]
COMBINATIONS = list(itertools.product(DECOMPOSITIONS, components("grouping"), components("form")))


@pytest.mark.parametrize(("decomposition", "grouping", "form"), COMBINATIONS)
@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_llama", "tiny_qwen2"])
def test_full_rank_is_the_dense_model(
    shape: str,
    decomposition: str,
    grouping: str,
    form: str,
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
    tmp_path: Path,
) -> None:
    model = make_model(shape, dtype="float64")
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        dense = model(input_ids=ids).logits
    groups: Any = components("grouping")[grouping]()
    storage: Any = components("form")[form]()
    method: Any = components("decomposition")[decomposition]()
    targets = groups.targets(find_targets(model))
    statistics = Statistics(method, DenseModel(model, targets, sequences))
    stored = factorise(statistics, StageCache(tmp_path, 1 << 40).entry("factors", {}), Stages())
    assert stored.rescues() == {}
    ranks = {t.name: min(t.d_out, t.d_in) for t in targets}
    assert {name: len(stored.spectrum(name)) for name in ranks} == ranks
    plan = RankPlan.of(0.0, dict(ranks), targets, storage)
    compress(model, targets, [plan], storage, stored.factors)
    with torch.no_grad():
        compressed = model(input_ids=ids).logits
    torch.testing.assert_close(compressed, dense, rtol=1e-6, atol=1e-6 * float(dense.abs().max()))
