"""A small study for tests: its two files, its jobs, and runs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from records_factory import measurement, record

from flrc.results.records.record import Record
from flrc.results.studies.manifest import Job
from flrc.results.tables.facts import facts_of

LAYOUT: dict[str, Any] = {
    "caption": "Perplexity of two methods",
    "place": "Table 99",
    "rows": ["rate", "method"],
    "columns": [{"name": "wikitext2/perplexity", "title": "Wiki2 perplexity"}],
    "labels": {"method": {"dense": "Baseline", "svdllm": "SVD-LLM", "flrc": "FLRC"}},
    "read_as": {"method": {"flra": "flrc"}},
}
EXPECTED: dict[str, Any] = {
    "source": "arXiv 0000.00000",
    "place": "Table 99",
    "rows": [
        {"where": {"method": "dense", "rate": 0}, "values": {"wikitext2/perplexity": 6.0}},
        {"where": {"method": "svdllm", "rate": 0.2}, "values": {"wikitext2/perplexity": 14.0}},
        {"where": {"method": "flrc", "rate": 0.2}, "values": {"wikitext2/perplexity": 12.0}},
    ],
    "claims": [{"text": "FLRC is ahead", "place": "Section 0"}],
    "orders": [
        {
            "metric": "wikitext2/perplexity",
            "above": {"method": "flrc"},
            "below": {"method": "svdllm"},
        }
    ],
}


def study_folder(tmp_path: Path, layout: dict[str, Any] = LAYOUT) -> Path:
    folder = tmp_path / "experiments" / "table99"
    folder.mkdir(parents=True)
    (folder / "table.yaml").write_text(yaml.safe_dump(layout, sort_keys=False), "utf-8")
    (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED, sort_keys=False), "utf-8")
    return folder


def job(of: Record, measurements: tuple[str, ...] = ("wikitext2/perplexity",)) -> Job:
    run = of.run
    return Job(run["id"], f"m/{run['id']}", facts_of(run["config"]), run["seed"], [*measurements],
               f"python run.py method={run['method']}")  # fmt: skip


def perplexity(method: str, at: float, rate: float = 0.2, seed: int = 0, **more: Any) -> Record:
    spent = 0.0 if method == "dense" else rate
    made = [measurement("wikitext2/perplexity", at, spent)]
    return record(method, rate, seed, measurements=made, **more)
