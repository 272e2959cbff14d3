"""The throughput of this machine for each kind of work that is counted, measured in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from flrc.core.demand import Rates
from flrc.models.sources.shapes import SHAPES

if TYPE_CHECKING:
    import torch

SIDES = (128, 256, 512, 1024)
"""Sides of the matrices that are multiplied: larger ones only while a product takes little time."""
ENOUGH = 0.05
"""Seconds of a product from which on the matrices are large enough."""
LONGEST = 0.2
"""Seconds after which a measurement is not repeated."""
FACTORISED = 512
BYTES = 1 << 26
CALLED = 8
"""Forward passes of a tiny model by which the cost of a call is measured."""


@cache
def measured_rates(device: torch.device, dtype: torch.dtype, threads: int) -> Rates:
    """Products in the dtype, in float32 and float64, eigendecompositions, copies.

    Each is the best of up to three repeats. ``threads`` are torch's now: with others the machine
    is measured again.
    """
    import torch

    single, double = torch.float32, torch.float64
    products = {kind: _product(device, kind) for kind in {dtype, single, double}}
    gram = torch.randn(FACTORISED, FACTORISED, dtype=double, device=device)
    gram = gram @ gram.T
    eigen = _best(lambda: torch.linalg.eigh(gram), device)
    source = torch.ones(BYTES // 4, dtype=single, device=device)
    target = torch.empty_like(source)
    copied = _best(lambda: target.copy_(source), device)
    return Rates(
        model=products[dtype],
        single=products[single],
        double=products[double],
        factorised=9 * FACTORISED**3 / eigen,
        moved=2 * BYTES / copied,
        calls=_calls(device),
    )


def _calls(device: torch.device) -> float:
    """Blocks per second of a tiny model on one token: what remains is the cost of calling it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = SHAPES["tiny_llama"]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        config = AutoConfig.for_model(**shape)
        model = AutoModelForCausalLM.from_config(config).eval().to(device)
        token = torch.zeros(1, 1, dtype=torch.int64, device=device)

        def forward() -> None:
            for _ in range(CALLED):
                model(input_ids=token, use_cache=False)

        return CALLED * int(shape["num_hidden_layers"]) / _best(forward, device)


def _product(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a linear layer with a square weight."""
    import torch

    rate = 0.0
    for side in SIDES:
        matrix = torch.ones(side, side, dtype=dtype, device=device)
        seconds = _best(lambda matrix=matrix: torch.nn.functional.linear(matrix, matrix), device)  # type: ignore[misc]
        rate = 2 * side**3 / seconds
        if seconds > ENOUGH:
            break
    return rate


def _best(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of up to three calls after the first."""
    import torch

    seconds: list[float] = []
    while len(seconds) < 4 and (len(seconds) < 2 or sum(seconds) < LONGEST):
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:])
