"""The facts by which tables place a run: method, rate, model, score, schedule ..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flrc.results.records.calibration_option import calibration_option
from flrc.results.records.record import METHOD_SLOTS, UNNAMED

Facts = dict[str, Any]
"""Fact -> value: ``method``, ``model``, ``rate`` (0 for dense), a component per slot (a search with
its limit of storage, if it has one), of the calibration its option (``wikitext2``, ``c4``,
``mixed`` ...) and its ``samples``, and of a tuning by gradients its ``passes``."""

DENSE: Facts = {"method": "dense", "rate": 0.0}


def facts_of(config: Mapping[str, Any]) -> Facts:
    """The facts of a run with this configuration (``RunConfig.to_plain()``, ``record.run.config``).

    A dense run has only model, method and rate: it stands for every value of the other facts.
    """
    model = config["model"]
    dense = config["decomposition"]["name"] == "none" or not config["rate"]
    facts: Facts = {"model": str(model.get("label") or model["name"])}
    if dense:
        return facts | DENSE
    facts |= {"method": str(config["method"]["name"]), "rate": float(config["rate"]), **UNNAMED}
    facts |= {slot: config[slot]["name"] for slot in (*METHOD_SLOTS, "runtime") if slot in config}
    if (stored := config.get("search", {}).get("stored")) and facts["schedule"] != "constant":
        facts["search"] += f", stored <= {stored:g}"
    if (passes := config.get("heal", {}).get("passes")) is not None:
        facts["passes"] = passes
    calibration = config["calibration"]
    return facts | {
        "calibration": calibration_option(calibration),
        "samples": calibration["samples"],
    }


def matches(facts: Facts, asked: Facts) -> bool:
    """Whether no fact differs; a fact that ``facts`` lacks, as those of dense runs do, matches."""
    return all(fact not in facts or facts[fact] == value for fact, value in asked.items())
