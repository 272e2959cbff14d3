"""Numbers that a record holds without listing them as measurements: shares, costs and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flrc.results.records.healing import healing_of
from flrc.results.records.measurement import Measurement
from flrc.results.records.record import Record
from flrc.results.records.stage_kinds import COMPRESSION, SEARCHING, evaluates
from flrc.results.records.store import requested_rate
from flrc.results.tables.columns import COUNTS, HEALING, REALISED, SCHEDULE, SEARCH


def counts(record: Record) -> dict[str, Measurement]:
    """The values that the record knows of the columns that are not measurements."""
    parameters = record.results.get("parameters", {})
    search = record.results.get("search", {})
    compress, evaluate = seconds(record)
    values = {
        "realised": record.results.get("rate", {}).get("realised"),
        "activated": _percent_of_dense(parameters, "targets_activated"),
        "stored": _percent_of_dense(parameters, "targets_stored"),
        "model_stored": parameters.get("model_stored"),
        "model_bytes": record.results.get("bytes", {}).get("model_stored"),
        "schedule_seconds": schedule_seconds(record),
        "compress_seconds": compress,
        "evaluate_seconds": evaluate,
        "search_passes": search.get("forward_passes"),
        "search_seconds": search.get("seconds"),
        **{f"healing_{name}": value for name, (value, _) in healing(record).items()},
    }
    rate = requested_rate(record)
    return {
        c.name: Measurement(c.name, float(values[c.name]), c.unit, False, None, 1, {}, rate)
        for c in (REALISED, *COUNTS, *SEARCH, *SCHEDULE, *HEALING)
        if values.get(c.name) is not None
    }


def derived(record: Record) -> list[Measurement]:
    """Shares and times under the names by which a study's layout asks for them.

    ``model/bytes_of_dense`` and ``model/flops_of_dense`` (of one token, without attention over the
    context) refer to the whole model, ``targets/stored`` to the parameters of the targets.
    ``healing/...`` are those of :func:`healing`.
    """
    results = record.results
    parameters, sizes = results.get("parameters", {}), results.get("bytes", {})
    values: dict[str, float] = {}
    if sizes.get("model_dense") and "model_stored" in sizes:
        values["model/bytes_of_dense"] = sizes["model_stored"] / sizes["model_dense"]
    if dense := parameters.get("targets_dense"):
        if flops := results.get("flops_per_token"):
            saved = 2 * (dense - parameters["targets_activated"])
            values["model/flops_of_dense"] = flops / (flops + saved)
        if "targets_stored" in parameters:
            values["targets/stored"] = parameters["targets_stored"] / dense
    if (spent := allocation_seconds(record)) is not None:
        values["allocation/seconds"] = spent
    units = {name: "s" if name.endswith("seconds") else "" for name in values}
    for name, (value, unit) in healing(record).items():
        values[f"healing/{name}"], units[f"healing/{name}"] = value, unit
    rate = float(results.get("rate", {}).get("realised", 0.0))
    return [
        Measurement(name, value, units[name], False, None, 1, {}, rate)
        for name, value in values.items()
    ]


def healing(record: Record) -> dict[str, tuple[float, str]]:
    """What tuning the factors took and brought, with units; empty if nothing was tuned.

    ``steps`` and ``kl`` (held-out, in nats per token) are those of the whole model, ``block_steps``
    and ``block_error`` (held-out, in per cent of what the dense block adds) those of all blocks;
    ``..._before`` is the untuned state's. ``seconds`` are known from the cache too; ``memory``, the
    peak of the stage in GB (on the device, if there is one), is not.
    """
    healed = healing_of(record)
    if healed is None:
        return {}
    values: dict[str, tuple[float, str]] = {"seconds": (healed.seconds, "s")}
    if (peak := _peak(record, "healing")) is not None:
        values["memory"] = (peak / 1e9, "GB")
    if healed.whole is not None:
        values["steps"] = (healed.whole.steps, "steps")
        values["kl_before"] = (healed.whole.before, "nats")
        values["kl"] = (healed.whole.after, "nats")
    if errors := healed.block_errors:
        values["block_steps"] = (healed.block_steps, "steps")
        values["block_error_before"], values["block_error"] = ((100 * e, "%") for e in errors)
    return values


def seconds(record: Record) -> tuple[float | None, float | None]:
    """Seconds of compression and of evaluation.

    None where nothing was done, and where a part was read from the cache: the run then does not
    know how long all of it takes.
    """
    stages = record.meta.get("stages", [])
    compress = [stage for stage in stages if stage["name"] in COMPRESSION]
    evaluate = [stage for stage in stages if evaluates(stage["name"])]
    return _total(compress), _total(evaluate)


def schedule_seconds(record: Record) -> float | None:
    """Seconds of the search for a schedule; None if there was none, or a part came from the cache.

    Replies that an earlier run generated take no time now.
    """
    search = record.meta.get("schedule_search_seconds") or {}
    if not record.results.get("schedule_search", {}).get("candidates"):
        return None
    if search.get("all") != search.get("now"):
        return None
    return _total([s for s in record.meta.get("stages", []) if s["name"] in SEARCHING])


def allocation_seconds(record: Record) -> float | None:
    """Seconds spent on choosing the ranks: scores, probes and the allocation itself.

    None if a part was read from another run's cache and its time is unknown.
    """
    if "search" not in record.results:
        return None
    stages = {stage["name"]: stage for stage in record.meta.get("stages", [])}
    scoring = stages.get("sensitivity")
    if scoring is not None and scoring["cached"]:
        return None
    total = float(stages.get("allocation", {}).get("seconds", 0.0))
    probes = float(record.results["search"].get("seconds") or 0.0)
    # Probes read from the cache took their seconds in another run.
    total = max(total, probes)
    return total + (float(scoring["seconds"]) if scoring is not None else 0.0)


def _peak(record: Record, stage: str) -> int | None:
    """Bytes; None if the stage did not run, or was read from the cache."""
    found = [s for s in record.meta.get("stages", []) if s["name"] == stage and not s["cached"]]
    peaks = [s.get("peak_device_bytes") or s.get("peak_anonymous_bytes") for s in found]
    return max(filter(None, peaks), default=None)


def _percent_of_dense(parameters: Mapping[str, Any], name: str) -> float | None:
    value, dense = parameters.get(name), parameters.get("targets_dense")
    return 100 * value / dense if dense and value is not None else None


def _total(stages: Sequence[Mapping[str, Any]]) -> float | None:
    if not stages or any(stage["cached"] for stage in stages):
        return None
    return sum(float(stage["seconds"]) for stage in stages)
