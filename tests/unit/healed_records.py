"""Records of runs that were healed."""

from __future__ import annotations

from typing import Any

import records_factory as factory

from flrc.results.records.record import Record

STEPS = 8


def course(
    held_out: list[float], stopped: str | None = None, block: int | None = None, seconds: float = 10
) -> dict[str, Any]:
    """A tuning of ``STEPS`` steps, with these held-out losses at even distances."""
    last = len(held_out) - 1
    checks = [
        {"step": round(STEPS * i / last), "held_out": loss, "seconds": seconds * (i + 1)}
        for i, loss in enumerate(held_out)
    ]
    best = min(checks, key=lambda check: (not check["held_out"] < 1e9, check["held_out"]))
    values = {
        "losses": [held_out[0] / 2 - step / 100 for step in range(STEPS)],
        "checks": checks,
        "chosen": best["step"],
    }
    values |= {} if stopped is None else {"stopped": stopped}
    return values | ({} if block is None else {"block": block})


def healed(
    method: str = "svdllm_healed",
    rate: float = 0.3,
    whole: dict[str, Any] | None = None,
    blocks: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> Record:
    """A run of a healed preset; ``whole`` and ``blocks`` are its tunings."""
    kind = "distilled" if not blocks else "both" if whole else "blockwise"
    heal: dict[str, Any] = {"name": kind, "held_out": 4, "passes": 1}
    if kind == "both":
        heal = {"name": kind, "blockwise": {"held_out": 3}, "distilled": {"held_out": 4}}
    start = method.removesuffix("_healed")
    made = factory.record(
        start if start in factory.PRESETS else "kfac",
        rate,
        components={"heal": kind},
        config={"heal": heal, "method": {"name": method}},
        **changes,
    )
    made.run |= {"method": method, "id": f"{method}-{rate}-{kind}"}
    made.results["healing"] = {"tokens": 36864}
    made.results["healing"] |= {"distilled": whole} if whole else {}
    made.results["healing"] |= {"blockwise": blocks} if blocks else {}
    return made
