"""Recomputes the golden numbers: ``python tests/golden/numbers_of_today.py`` writes the file.

Do so only if the numbers are meant to change, and explain in the commit why they differ.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("numbers.json")
METHODS = (
    "dense",
    "svd",
    "asvd_uniform",
    "svdllm",
    "flra",
    "flrc",
    "svdllm_v2",
    "drank",
    "modegpt_alloc",
    "skipcat",
    "kfac",
    "flrc_kfac",
    "kfac_skip",
    "kfac_skipcat",
)

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]


def compute(folder: Path) -> dict[str, Any]:
    """Every method on a tiny Qwen2 and synthetic text; all files go to ``folder``."""
    from tiny import compose, make_model, write_data

    from flrc.models.sources.byte_tokenizer import byte_tokenizer
    from flrc.pipeline import run

    make_model("tiny_qwen2").save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    write_data(folder / "data")
    numbers: dict[str, Any] = {}
    for method in METHODS:
        record = run(
            compose(
                f"method={method}",
                "search=none",  # replies of a tiny model differ between schedules only by chance
                "model=local",
                f"model.path={folder / 'model'}",
                "data=folder",
                f"data.root={folder / 'data'}",
                "calibration=wikitext2",
                "calibration.samples=6",
                "calibration.length=128",
                "evaluation=[perplexity]",
                "evaluation.perplexity.length=256",
                "evaluation.perplexity.windows=4",
                "device=cpu",
                "rate=0.2",
                f"paths.runs={folder / 'runs'}",
                f"paths.cache={folder / 'cache'}",
            )
        )
        assert record.run["status"] == "ok", record.run
        layers = record.results["layers"]
        numbers[method] = {
            "perplexity": {m.name: m.value for m in record.measurements},
            "realised": record.results["rate"]["realised"],
            "ranks": {layer["target"]: layer["rank"] for layer in layers},
            "phase_ranks": {layer["target"]: layer["phase_ranks"] for layer in layers},
            "mean_relative_error": sum(layer["relative_error"] for layer in layers)
            / max(1, len(layers)),
        }
    return numbers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        FILE.write_text(json.dumps(compute(Path(made)), indent=1) + "\n", encoding="utf-8")
