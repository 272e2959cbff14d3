"""Computes the frozen ids anew: ``python tests/golden/ids_of_today.py`` writes the file.

An id or a cache key that moves orphans every run and every cached stage that anybody has. Write the
file only where that is meant, and say in the change why.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

FILE = Path(__file__).with_name("ids.json")
PLAN = Path(__file__).with_name("replayed_plan.json")
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DATA = Path(__file__).parents[3] / "shared" / "data"

METHODS = sorted(
    path.stem for path in (Path(__file__).parents[2] / "conf" / "method").glob("*.yaml")
)
BASE = ("model=random", "data=sample", "device=cpu", "threads=2", "evaluation=[summarization]")
SCORED = ("method=svdllm", "sensitivity=fisher")
SEARCHED = ("method=flrc", "search=halving")
OPTIONS = {
    "calibration c4": ("method=svdllm", "calibration=c4", "calibration.samples=5"),
    "calibration wikitext2": (*SCORED, "calibration=wikitext2", "allocator=proportional"),
    "calibration both": ("method=svdllm", "calibration=wikitext2_c4", "calibration.length=65"),
    "decomposition kfac": ("method=kfac", "grouping=shared", "decomposition.labels=data"),
    "decomposition published": ("method=svdllm", "decomposition=kfac_published"),
    "decomposition selection": ("method=svdllm", "decomposition=selection", "dtype=float64"),
    "decomposition scaled": ("method=asvd", "decomposition.alpha=1", "seed=3"),
    "decomposition svd": ("method=svd", "form=pivoted", "rate=0.5", "model.seed=1"),
    "decomposition whitened": (*SCORED, "decomposition.cutoff=1e-12", "quantization=int8"),
    "allocator bayesian": ("method=svdllm", "allocator=bayesian", "allocator.trials=7"),
    "allocator depth": ("method=svdllm", "allocator=depth_linear", "allocator.slopes=5"),
    "allocator rank": ("method=svdllm", "allocator=effective_rank", "allocator.transfer=0"),
    "allocator surrogate": ("method=svdllm", "allocator=probed_surrogate"),
    "allocator share": (*SCORED, "allocator=proportional", "allocator.ceiling=1.5"),
    "allocator order": (*SCORED, "allocator=rank_order", "allocator.half_width=0.05"),
    "allocator replay": ("method=svdllm", "allocator=replay", f"allocator.path={PLAN}"),
    "allocator search": ("method=svdllm", "allocator=sensitivity_search", "allocator.samples=3"),
    "allocator softmax": (*SCORED, "allocator=softmax", "allocator.epsilon=0.2"),
    "allocator spectrum": ("method=svdllm", "allocator=spectrum", "allocator.minimum_rank=2"),
    "allocator type": ("method=svdllm", "allocator=type_loss", "allocator.offset=3"),
    "allocator uniform": (*SCORED, "allocator=uniform", "allocator.samples=9"),
    "sensitivity influence": (*SEARCHED, "sensitivity=block_influence", "seed=1"),
    "sensitivity fisher": (*SEARCHED, "sensitivity=fisher", "sensitivity.reduction=aggregate"),
    "sensitivity gradient": (*SEARCHED, "sensitivity=gradient", "search.rounds=1"),
    "sensitivity trace": (*SEARCHED, "sensitivity=hessian_trace", "sensitivity.draws=2"),
    "sensitivity weight": (*SEARCHED, "sensitivity=weight", "search.rouge_tokenizer=unicode"),
    "schedule increasing": ("method=flrc", "schedule=increasing", "search=none"),
    "schedule progressive": ("method=flrc", "search=none", "schedule.offsets=[-0.05,0.05]"),
    "schedule constant": ("method=flrc", "schedule=constant"),
    "search increasing": (*SEARCHED, "schedule=increasing", "search.batch_size=3"),
    "refine": ("method=kfac", "refine=propagated", "refine.strength=0.5"),
    "heal end to end": (*SEARCHED, "heal=distilled", "heal.passes=2"),
    "heal blocks": ("method=kfac_skip", "heal=blockwise", "heal.weighting=none"),
    "heal both": ("method=svdllm", "heal=both", "heal.distilled.checks=2"),
    "runtime compiled": ("method=svdllm", "runtime=compiled", "tracker=wandb", "study=other"),
    "runtime offload": ("method=svdllm", "runtime=offload", "runtime.budget=0.5"),
    "runtime spread": ("method=svdllm", "runtime=spread", "placement=host"),
}
"""Every option of the groups that decide a compressed model, each where it is read."""

NOT_COMPOSED: dict[str, str] = {}
"""Committed records whose stored configuration cannot be composed, by folder, and why: none."""

RENAMED = {
    "ablation/results/whitened-uniform-constant-r0.2-f0452dd501",
    "first_table/results/whitened-proportional-constant-r0.2-86b8f5904d",
    "first_table/results/whitened-proportional-constant-r0.2-9691dd635a",
    "first_table/results/whitened-proportional-constant-r0.2-97455555dc",
    "first_table/results/whitened-uniform-constant-r0.2-f0452dd501",
    "speed/offload/selection-uniform-constant-r0.3-506b1f66a7",
}
"""Committed records, the first that were made, whose configuration had another id then: components
have raised their versions, or describe themselves otherwise, since."""

ADDED = {
    "search": "none",
    "refine": "none",
    "grouping": "separate",
    "heal": "none",
    "quantization": "none",
}
"""What the groups that were added later were before: older records do not name them."""

RANKS = {"layer": 3, "another": None}
TOKENS = "0123456789abcdef" * 4

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]


@contextmanager
def _any_version() -> Iterator[None]:
    """Keys hold the versions of libraries; here those are constants."""
    with mock.patch.object(importlib.metadata, "version", "version of {}".format):
        yield


def configurations() -> dict[str, Any]:
    """Every preset with the default search, and every option."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from tiny import CONF

    from flrc.config import register

    register()
    presets = {f"method {name}": (f"method={name}",) for name in METHODS}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return {
            name: OmegaConf.to_object(compose("config", [*BASE, *overrides]))
            for name, overrides in (presets | OPTIONS).items()
        }


def run_ids(configs: dict[str, Any]) -> dict[str, str]:
    """The id of each configuration."""
    from flrc.running.identity import run_id

    return {name: run_id(config) for name, config in configs.items()}


def cache_keys(configs: dict[str, Any], cache: Path) -> dict[str, dict[str, str]]:
    """Names of the entries that each configuration would use, by stage, whether or not it does."""
    from flrc.core.cache import StageCache
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.run_plans import Plans
    from flrc.running.identity import HELD_OUT, Entries

    names = {}
    with _any_version():
        for label, config in configs.items():
            parts = {
                e.title(part, config.data): TOKENS
                for e in config.evaluation.values()
                for part in e.parts()
            }
            read = {"calibration": TOKENS, HELD_OUT: TOKENS, **parts}
            entries = Entries(config, read, StageCache(cache, 0))
            used = {
                f"dense replies of {part}": entries.dense_replies(evaluation, part, [2])
                for evaluation in config.evaluation.values()
                if evaluation.GENERATES
                for part in evaluation.parts()
            }
            if config.compresses:
                used |= {
                    "factors": entries.factors(),
                    "probes": entries.probes(),
                    "replies": entries.replies(),
                    "refined": entries.refined(RankPlan(0.2, 0.2, RANKS)),
                }
                if config.heal.HEALS:
                    plans = Plans(RankPlan(0.2, 0.2, RANKS), [])
                    used["healed"] = entries.healed(plans, [1.0], config.refine.REFINES)
                if config.decomposition.CALIBRATED:
                    used["statistics"] = entries.statistics()
                if config.decomposition.TWO_SIDED:
                    used["output gradients"] = entries.output_gradients()
                if config.allocator.SCORED:
                    used["gradients"] = entries.gradients("per_sequence")
                    used["gradients, aggregate"] = entries.gradients("aggregate")
                    used["scores"] = entries.scores()
            names[label] = {stage: str(e.path.relative_to(cache)) for stage, e in used.items()}
    return names


def committed_ids() -> dict[str, str]:
    """The id that each committed record's stored configuration has today, by the record's folder.

    Raises:
        ValueError: If a stored configuration cannot be composed and is not in :data:`NOT_COMPOSED`.
    """
    from flrc.config import GROUPS, components
    from flrc.running.identity import run_id

    known = {group: components(group) for group in GROUPS}
    ids = {}
    for path in sorted(EXPERIMENTS.rglob("record.json")):
        folder = str(path.parent.relative_to(EXPERIMENTS))
        if folder not in NOT_COMPOSED:
            stored = json.loads(path.read_text("utf-8"))["run"]["config"]
            stored["data"] |= {"root": str(DATA)} if stored["data"]["name"] == "folder" else {}
            try:
                ids[folder] = run_id(_composed(stored, known))
            except (TypeError, KeyError) as error:
                raise ValueError(f"{folder}: {error}") from error
    return ids


def _composed(stored: dict[str, Any], known: dict[str, Any]) -> Any:
    """A configuration from a record's plain values and the components by group and name."""
    from flrc.config import Method, Paths, RunConfig

    def component(group: str, values: dict[str, Any]) -> Any:
        return known[group][values["name"]](**values)

    built: dict[str, Any] = {
        "method": Method(**stored.pop("method")),
        "paths": Paths(**stored.pop("paths")),
        "evaluation": {
            name: component("evaluation", values)
            for name, values in stored.pop("evaluation").items()
        },
    }
    for group in known.keys() - {"evaluation"}:
        built[group] = component(group, stored.pop(group, {"name": ADDED.get(group)}))
    return RunConfig(**built, **stored)


if __name__ == "__main__":
    import tempfile

    composed = configurations()
    frozen = {"runs": run_ids(composed), "committed": committed_ids()}
    with tempfile.TemporaryDirectory() as folder:
        frozen["keys"] = cache_keys(composed, Path(folder))  # type: ignore[assignment]
    FILE.write_text(json.dumps(frozen, indent=1) + "\n", "utf-8")
