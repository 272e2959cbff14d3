"""The probes of a run: one per number of sequences, cached by factors, with reported cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.allocator.probe_cache import ProbeCache
from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import StageCache
from flrc.decomposition.statistics import Statistics
from flrc.decomposition.svd import Svd
from flrc.models.anatomy.targets import find_targets
from flrc.running.factors import factorise
from flrc.running.profiling import Stages


def make(model: Any, sequences: list[torch.Tensor], cache: StageCache) -> ProbeCache:
    dense = DenseModel(model, find_targets(model), sequences)
    stored = factorise(Statistics(Svd(), dense), cache.entry("factors", {}), Stages())
    return ProbeCache(dense, stored.factors, cache.entry("probes", {}))


def test_cost_is_reported_in_passes_over_all_calibration_tokens(
    make_model: Callable[..., Any], sequences: list[torch.Tensor], tmp_path: Path
) -> None:
    cache = StageCache(tmp_path, 1 << 40)
    model = make_model()
    probes = make(model, sequences, cache)
    assert probes.cost() == {
        "probes": 0,
        "seconds": 0,
        "forward_passes": 0,
        "forward_passes_now": 0,
    }
    assert probes(1) is probes(1)
    assert probes(None) is probes(len(sequences))
    assert probes(10**6) is probes(None)
    name = find_targets(model)[0].name
    found = probes(None).plan({name: 2})
    cost = probes.cost()
    assert cost["probes"] == 1
    # One plan and the dense pass it compares with, end to end on every token; the head again.
    assert 2.0 <= cost["forward_passes"] < 2.5
    assert cost["forward_passes_now"] == pytest.approx(cost["forward_passes"])

    again = make(model, sequences, cache)
    assert again(None).plan({name: 2}) == found
    told = again.cost()
    assert told["forward_passes_now"] == 0
    assert told["forward_passes"] == pytest.approx(cost["forward_passes"])
