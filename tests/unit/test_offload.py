"""Streamed matrices: the right rows in any order, bytes counted, and models that do not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_plans import make_plans
from plain_factors import stacked_factors
from torch import Tensor

from flrc.allocator.evidence import Evidence
from flrc.allocator.uniform import Uniform
from flrc.errors import UserError
from flrc.form.pivoted import Pivoted
from flrc.form.surgery import compress
from flrc.form.two_factor import TwoFactor
from flrc.grouping.shared import Shared
from flrc.models.anatomy.targets import find_targets
from flrc.models.layers.sizes import stored_bytes
from flrc.models.layers.switching import activate
from flrc.pipeline import run
from flrc.quantization.int8 import Int8
from flrc.runtime.offload import Offload
from flrc.runtime.weight_sources import DiskSource, RateLimited
from flrc.runtime.weight_streaming import Source, Streamer, streamers
from flrc.schedule.constant import Constant
from flrc.schedule.progressive import Progressive


class Slow(Source):
    """Matrices whose entries identify them; reading takes a while and is recorded."""

    def __init__(
        self, counts: list[int], buffers: int, seconds: float = 0.0, readers: int = 1
    ) -> None:
        self.READERS = readers  # type: ignore[misc]
        self.matrices = [torch.full((n, 3), float(i)) for i, n in enumerate(counts)]
        self.buffers: list[Any] = [None] * buffers
        self.busy: set[int] = set()
        self.read_by: list[tuple[int, int, bool]] = []
        self.seconds = seconds
        self.main = threading.current_thread()

    def read(self, item: int, rows: int, buffer: int) -> int:
        assert buffer not in self.busy, "a buffer is overwritten while it is used"
        self.read_by.append((item, rows, threading.current_thread() is self.main))
        time.sleep(self.seconds)
        self.buffers[buffer] = self.matrices[item][:rows].clone()
        return self.buffers[buffer].nbytes

    def ready(self, item: int, rows: int, buffer: int) -> Tensor:
        self.busy.add(buffer)
        return self.buffers[buffer][:rows]

    def used(self, buffer: int) -> None:
        self.busy.discard(buffer)

    def close(self) -> None:
        self.buffers = []


def check(streamer: Streamer, item: int, rows: int) -> None:
    found = streamer.use(item, rows, lambda values: values.clone())
    assert found.shape == (rows, 3)
    assert bool((found == item).all())


@pytest.mark.parametrize("buffers", [2, 3, 4])
@pytest.mark.parametrize("seconds", [0.0, 0.002])
@pytest.mark.parametrize("readers", [1, 2])
def test_reads_ahead_around_and_around(buffers: int, seconds: float, readers: int) -> None:
    counts = [4, 6, 2, 5]
    source = Slow(counts, buffers, seconds, readers)
    streamer = Streamer(source, [lambda n=n: n for n in counts], buffers)
    for _ in range(5):
        for item, rows in enumerate(counts):
            check(streamer, item, rows)
    streamer.close()
    assert streamer.misses == 0
    order = [item for item, _, _ in source.read_by]
    if readers == 1:
        assert order[:20] == [0, 1, 2, 3] * 5
    for item in range(4):  # two readers may write in another order than they were told
        assert 5 <= order.count(item) <= 5 + -(-buffers // 4)
    # Everything read is counted; no more is read in vain than there are buffers.
    assert 20 <= len(order) <= 20 + buffers
    assert streamer.moved == sum(12 * counts[item] for item in order)


@pytest.mark.parametrize("readers", [1, 2, 3])
def test_out_of_order_is_right_and_counted(readers: int) -> None:
    counts = [4, 6, 2, 5]
    source = Slow(counts, 3, 0.001, readers)
    streamer = Streamer(source, [lambda n=n: n for n in counts], 3)
    for item in (0, 1, 3, 0, 2, 2, 3, 0, 1):
        check(streamer, item, counts[item])
    streamer.close()
    assert streamer.misses == 3  # 3 after 1, 2 after 0, 2 after 2
    # While buffers are given up for a miss, nothing is read ahead into them.
    assert len(source.read_by) <= 9 + (3 + 1) * 3


def test_ranks_that_change() -> None:
    """Fewer rows than were read are a prefix; more are read again; unused ones are left out."""
    ranks = [6, 6, 6]
    source = Slow([6, 6, 6], 2)
    streamer = Streamer(source, [lambda i=i: ranks[i] for i in range(3)], 2)
    for item in range(3):
        check(streamer, item, 6)
    ranks[:] = [2, 2, 2]
    for _ in range(3):
        for item in range(3):
            check(streamer, item, 2)
    assert streamer.misses == 0
    assert {rows for _, rows, _ in source.read_by[-3:]} == {2}
    until = time.monotonic() + 60
    while len(source.read_by) < 14 and time.monotonic() < until:  # both buffers are read ahead
        time.sleep(0.001)
    ranks[:] = [6, 6, 6]
    for item in range(3):
        check(streamer, item, 6)
    assert streamer.misses >= 1
    ranks[1] = 0
    for _ in range(2):
        for item in (0, 2):
            check(streamer, item, 6)
    streamer.close()
    assert 1 not in [item for item, _, _ in source.read_by[-3:]]


@pytest.mark.parametrize("readers", [1, 2])
def test_a_paced_link_carries_what_it_says(readers: int) -> None:
    """Six matrices of 4,800 bytes at 96 kB/s: 0.3 s, however many readers, in the right order."""
    counts = [400] * 3
    begin = time.monotonic()
    streamer = Streamer(RateLimited(Slow(counts, 3, 0.0, readers), 96e3), [lambda: 400] * 3, 3)
    for item in [0, 1, 2, 0, 1, 2]:
        check(streamer, item, 400)
    seconds = time.monotonic() - begin
    streamer.close()
    assert streamer.misses == 0
    assert 0.29 < seconds < 3.0


def test_a_paced_link_does_not_save_up() -> None:
    """Capacity that was not used while idle does not make later transfers faster."""
    source = RateLimited(Slow([400], 1), 96e3)
    source.read(0, 400, 0)
    time.sleep(0.2)
    begin = time.monotonic()
    for _ in range(2):
        source.read(0, 400, 0)
    assert time.monotonic() - begin > 0.09


def test_an_error_in_reading_is_raised_where_the_matrix_is_used() -> None:
    class Broken(Slow):
        def read(self, item: int, rows: int, buffer: int) -> int:
            if item == 1:
                raise OSError("the disk is gone")
            return super().read(item, rows, buffer)

    streamer = Streamer(Broken([2, 2], 2), [lambda: 2, lambda: 2], 2)
    check(streamer, 0, 2)
    with pytest.raises(OSError, match="the disk is gone"):
        streamer.use(1, 2, lambda values: values)
    check(streamer, 0, 2)
    streamer.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_disk_gives_back_what_was_written(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    matrices = [(100 * torch.randn(n, w)).to(dtype) for n, w in ((7, 5), (1000, 33), (3, 4096))]
    source = DiskSource(matrices, tmp_path, 2)
    assert not list(tmp_path.iterdir())  # no name, nothing left behind
    for item, matrix in enumerate(matrices):
        for rows in (1, len(matrix) // 2, len(matrix)):
            assert source.read(item, rows, 1) == matrix[:rows].nbytes
            assert torch.equal(source.ready(item, rows, 1), matrix[:rows])
    source.close()


def generated(model: Any, at: dict[int, Any]) -> Tensor:
    from flrc.evaluation.timed_generation import timed

    ids = torch.randint(0, 250, (2, 7), generator=torch.Generator().manual_seed(0))
    return timed(model, ids, 8, at).tokens


@pytest.mark.parametrize("shape", ["tiny_llama_gqa", "tiny_qwen2"])
@pytest.mark.parametrize(
    ("form", "schedule", "shared", "int8"),
    [
        (None, Constant(), False, False),
        (TwoFactor(), Progressive(), False, False),
        (TwoFactor(), Progressive(), False, True),
        (TwoFactor(), Constant(), True, False),
        (Pivoted(), Constant(), True, True),
    ],
)
def test_a_model_gives_the_same_tokens(
    shape: str,
    form: Any,
    schedule: Any,
    shared: bool,
    int8: bool,
    make_model: Callable[..., Any],
    tmp_path: Path,
) -> None:
    model = make_model(shape)
    dense = sum(p.nbytes for p in model.parameters())
    targets = find_targets(model)
    targets = Shared().targets(targets) if shared else targets
    at: dict[int, Any] = {}
    if form is not None:
        plans = make_plans(Uniform(), schedule, targets, form, Evidence(), 0.3)
        starts = [0] if len(plans.phases) == 1 else [0, 4]
        at = {start: plan for start, (_, plan) in zip(starts, plans.phases, strict=True)}
        if len(at) == 2:  # dense first, factored later
            at[0].ranks[targets[1].name] = None
        compress(model, targets, plans.all, form, stacked_factors(model, targets))
        activate(model, at[0])
    if int8:
        Int8().quantize(model, targets)
    expected = generated(model, at)
    size = stored_bytes(model, targets)
    rest = size["model_stored"] - size["targets_stored"]
    runtime = Offload(
        budget=f"{(rest + size['targets_stored'] // 2) / 1e6:.6f}MB", folder=str(tmp_path)
    )
    with runtime.running(model, targets, dense):
        (streamer,) = streamers(model)
        assert torch.equal(generated(model, at), expected)
        assert torch.equal(generated(model, at), expected)
        held = sum(p.nbytes for p in model.parameters())
        assert held < size["model_stored"] - size["targets_stored"] // 4
        moved, begun = streamer.moved, streamer.misses
        generated(model, at)
        # Ranks rise again at a new prefill: what was read ahead is read again, once.
        assert streamer.misses - begun <= (1 if len(at) == 2 else 0)
        if len(at) < 2 and not int8:
            # Eight passes, each over all that moves; what is read ahead fills the buffers or not.
            rows = {id(r): r for r in model.modules() if getattr(r, "stream", None) is not None}
            a_pass = sum(r.bytes() for r in rows.values())
            largest = max(r.bytes() for r in rows.values())
            buffers = len(streamer._slots)
            assert abs(streamer.moved - moved - 8 * a_pass) <= buffers * largest


def test_what_fits_stays(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = make_model()
    dense = sum(p.nbytes for p in model.parameters())
    with Offload(budget="1.0", folder=str(tmp_path)).running(model, find_targets(model), dense):
        assert streamers(model) == []


def test_a_budget_that_is_too_small_says_what_it_needs(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    model = make_model()
    dense = sum(p.nbytes for p in model.parameters())
    small = Offload(budget="0.01", folder=str(tmp_path))
    with (
        pytest.raises(UserError, match=r"runtime\.budget=1MB") as error,
        small.running(model, find_targets(model), dense),
    ):
        pass
    assert "two matrices" in str(error.value)


@pytest.mark.parametrize(
    ("budget", "meant"),
    [
        ("50%", "0.5"),
        ("12.5 %", "0.125"),
        ("8gb", "8GB"),
        ("500M", "500MB"),
        ("1.5 gib", "1.5GiB"),
        *((unclear, None) for unclear in ("0", "1.5", "8 kB", "GB", "", "1.2.3GB", "-1", "150%")),
    ],
)
def test_a_budget_that_cannot_be_read(budget: str, meant: str | None) -> None:
    with pytest.raises(UserError, match=r"budget(?s:.*)MB, GB, MiB, GiB") as error:
        Offload(budget=budget)
    assert error.value.fix == (None if meant is None else f"runtime.budget={meant}")
    if meant is not None:
        Offload(budget=meant)


def test_a_run(run_config: Callable[..., Any]) -> None:
    overrides = [
        "method=flrc",
        "search=none",
        "rate=0.3",
        "evaluation=[perplexity,efficiency]",
        "evaluation.perplexity.length=128",
        "evaluation.efficiency.batch_sizes=[1]",
        "evaluation.efficiency.new_tokens=8",
    ]
    plain = run(run_config(*overrides))
    config = run_config(*overrides, "runtime=offload", "runtime.budget=0.6")
    config.runtime.folder = config.paths.cache
    record = run(config)
    assert record.run["status"] == "ok", record.run
    values = {m.name: m.value for m in record.measurements}
    name = "wikitext2/perplexity"
    assert values[name] == {m.name: m.value for m in plain.measurements}[name]
    assert values["decode/streamed_bytes_per_step"] > 0
    assert values["decode/streamed_ratio"] > 1
    assert not [name for name in values if "allowed" in name]  # memory is not the bound
    assert "decode/streamed_ratio" not in {m.name for m in plain.measurements}
