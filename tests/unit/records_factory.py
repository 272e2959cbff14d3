"""Realistic records for tests of the store, the tables and the tracker."""

from __future__ import annotations

import hashlib
from typing import Any

from flrc.results.records.record import Record

PRESETS = {
    "dense": ("none", "none", "uniform", "constant"),
    "svdllm": ("whitened", "none", "uniform", "constant"),
    "flra": ("whitened", "fisher", "proportional", "constant"),
    "flrc": ("whitened", "fisher", "proportional", "progressive"),
    "kfac": ("kfac", "none", "spectrum", "constant"),
}
SLOTS = ("decomposition", "sensitivity", "allocator", "schedule")
DENSE = 106_168_320
EMBEDDINGS = 28_346_688


def measurement(name: str, value: float, rate: float, **changes: Any) -> dict[str, Any]:
    """One measurement as in a record."""
    metric = name.split("/")[-1]
    lower = metric in {"perplexity", "bytes_per_token"}
    unit = {"perplexity": "perplexity", "rate": "", "tokens_per_second": "tokens/s"}.get(
        metric, "%"
    )
    return {
        "name": name,
        "value": value,
        "unit": changes.get("unit", unit),
        "higher_is_better": changes.get("higher_is_better", not lower),
        "stderr": changes.get("stderr"),
        "count": changes.get("count", 8),
        "settings": changes.get("settings", {"windows": 8, "length": 2048, "data": "abc"}),
        "rate": rate,
    }


def record(
    method: str = "svdllm",
    rate: float = 0.2,
    seed: int = 0,
    *,
    model: str = "smollm2_135m",
    components: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    measurements: list[dict[str, Any]] | None = None,
    status: str = "ok",
    realised: float | None = None,
    study: str | None = None,
    **run: Any,
) -> Record:
    """A record of ``method`` at ``rate``, by default with perplexity 20 + 100 rate + seed."""
    rate = 0.0 if method == "dense" else rate
    slots = dict(zip(SLOTS, PRESETS[method], strict=True)) | (components or {})
    whole = {
        "model": {"name": "gguf", "label": model, "path": "weights.gguf"},
        "method": {"name": method},
        "calibration": {"name": "text", "samples": 16, "length": 512},
        "rate": rate,
        "seed": seed,
        "dtype": "float32",
        "device": "cpu",
        **{slot: {"name": name} for slot, name in slots.items()},
    } | (config or {})
    realised = rate if realised is None else realised
    if measurements is None:
        measurements = [measurement("wikitext2/perplexity", 20 + 100 * rate + seed, realised)]
    run_id = hashlib.sha256(repr((sorted(whole.items()), status)).encode()).hexdigest()[:10]
    stored = round(DENSE * (1 - rate))
    failed = status == "failed"
    results = {
        "measurements": measurements,
        "rate": {"requested": rate, "realised": realised, "per_token": realised},
        "parameters": {
            "targets_dense": DENSE,
            "targets_activated": stored,
            "targets_stored": stored,
            "model_dense": DENSE + EMBEDDINGS,
            "model_stored": stored + EMBEDDINGS,
        },
        "bytes": {
            "model_dense": 4 * (DENSE + EMBEDDINGS),
            "model_stored": 4 * (stored + EMBEDDINGS),
        },
        "layers": [
            {"target": "block.0.q_proj", "block": 0, "shape": [576, 576], "rank": 230,
             "relative_error": 0.12},
            {"target": "block.0.k_proj", "block": 0, "shape": [192, 576], "rank": None,
             "relative_error": 0.0},
        ],
        "phases": [{"begin": 0.0, "requested": rate, "realised": realised}],
        "rescues": [],
    }  # fmt: skip
    return Record(
        run={
            "id": run_id,
            "status": status,
            "method": method,
            "components": slots,
            "config": whole,
            "seed": seed,
            "study": study,
            **(
                {"stage": "decomposition", "error": "UserError: no room_left 100%"}
                if failed
                else {}
            ),
            **run,
        },
        results={} if failed else results,
        meta={
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "model_revision": "sha256:feed",
            "data_revisions": {"wikitext2": "sha256:beef"},
            "device": "cpu",
            "dtype": "float32",
            "threads": 2,
            "command": f"python run.py method={method} rate={rate} seed={seed}",
            "started": "2026-03-01T12:00:00+00:00",
            "stages": [
                {"name": "load", "seconds": 2.0, "peak_bytes": 10**9, "cached": False},
                {
                    "name": "statistics",
                    "seconds": 30.0,
                    "peak_bytes": 2 * 10**9,
                    "cached": seed > 0,
                },
                {"name": "decomposition", "seconds": 12.5, "peak_bytes": 10**9, "cached": False},
                {
                    "name": "perplexity wikitext2",
                    "seconds": 7.0,
                    "peak_bytes": 10**9,
                    "cached": False,
                },
            ],
        },
    )


def sweep() -> list[Record]:
    """Dense, four methods at three rates with several metrics, one failed run."""
    records = []
    strength = {"dense": 0.0, "svdllm": 9.0, "flra": 5.0, "flrc": 5.0, "kfac": 2.0}
    for method in PRESETS:
        for rate in (0.0,) if method == "dense" else (0.1, 0.2, 0.3):
            for seed in (0, 1, 2) if method == "svdllm" else (0,):
                loss = strength[method] * rate * (1 + 4 * rate)
                spent = rate + 0.013 if method == "flrc" else rate
                records.append(record(method, rate, seed, realised=rate - 3e-5 * (rate > 0),
                measurements=[
                    measurement("sample_wikitext2/perplexity", 18.4 * 2.718**loss + seed, rate),
                    measurement("sample_c4/perplexity", 27.1 * 2.718 ** (1.3 * loss) + seed, rate),
                    measurement("zeroshot/mean_acc", 46 - 8 * loss + seed, rate,
                                settings={"limit": 100, "tasks": ["arc_easy", "piqa"]}),
                    measurement("sample_dialogsum/rougeL", 15.6 / (1 + loss), spent,
                                settings={"limit": 40, "max_new_tokens": 48}, stderr=1.5, count=40),
                    measurement("sample_dialogsum/rate", spent, spent,
                                settings={"limit": 40, "max_new_tokens": 48}),
                ]))  # fmt: skip
    records.append(record("kfac", 0.4, status="failed"))
    return records
