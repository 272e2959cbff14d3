"""Ids of runs and keys of cached results: all of them are made here.

Each is the digest of a dictionary of everything that decides the run or the result. Components
contribute their part (``describe``, ``inputs``, ``settings``). Changing a dictionary renames the
runs, or orphans the cached results, that are identified by it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flrc.core import jsonfile
from flrc.core.component import plain
from flrc.plans.run_plans import phase_json
from flrc.results.records.store import RunFolder

if TYPE_CHECKING:
    from flrc.config import RunConfig
    from flrc.core.cache import Entry, StageCache
    from flrc.evaluation.base import Evaluation
    from flrc.healing.distilled import Distilled
    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.run_plans import Plans

CALIBRATION, SEARCH, HELD_OUT = "calibration", "search", "held-out calibration"
"""What token sequences are read for, besides the evaluations."""


def run_id(config: RunConfig) -> str:
    """10 hexadecimal digits of the identity's digest."""
    return jsonfile.digest(identity(config), 10)


def identity(config: RunConfig) -> dict[str, Any]:
    """What decides the compressed model and its decoding, as plain JSON values.

    Evaluation, tracker, paths, device, batch size and labels are left out; so is what the run does
    not read (the scores of an allocator that needs none, the calibration of a plain SVD, everything
    but the model for the dense run), so that one computation has one id however it was written.
    """
    model = {
        "fingerprint": config.model.fingerprint(),
        "dtype": config.dtype,
        "threads": config.threads,
    }
    if not config.compresses:
        return {"model": model, "decomposition": "none"}
    parts: dict[str, Any] = {
        "model": model,
        "rate": float(config.rate),
        "decomposition": config.decomposition.describe(),
        "grouping": config.grouping.describe(),
        "form": config.form.describe(),
        "allocator": config.allocator.describe(),
        "schedule": config.schedule.describe(),
        "quantization": config.quantization.describe(),
        "runtime": config.runtime.describe(),
    }
    if config.searches:
        parts["search"] = {**config.search.inputs(config.data), "seed": config.seed}
        # The search decides the phases; of the schedule only the direction is read.
        parts["schedule"] = {"name": config.schedule.name, "version": type(config.schedule).VERSION}
    if config.refine.REFINES:
        parts["refine"] = config.refine.describe()
    if config.heal.HEALS:
        parts["heal"] = {**config.heal.describe(), **config.calibration.held_out_inputs()}
    if config.allocator.SCORED:
        parts["sensitivity"] = config.sensitivity.describe()
    if config.calibrates:
        parts["calibration"] = _calibration(config)
    return parts


def run_folder(config: RunConfig) -> RunFolder:
    """Where the run is kept."""
    return RunFolder.of(
        config.runs_path(),
        model=config.model.label,
        decomposition=config.decomposition.name if config.compresses else "none",
        allocator=config.allocator.name if config.compresses else "none",
        schedule=config.schedule.name if config.compresses else "constant",
        rate=config.rate if config.compresses else 0.0,
        run_id=run_id(config),
    )


class Entries:
    """The cache entries of a run's stages.

    Two keys are made elsewhere: that of a de-quantised GGUF file by its model source, since it does
    not depend on the run, and the names of several files in one entry (of probes and replies).

    Args:
        config: The run.
        tokens: Digests of the token ids that it reads, by what they are read for.
        cache: Where entries are.
    """

    def __init__(self, config: RunConfig, tokens: Mapping[str, str], cache: StageCache) -> None:
        self._config = config
        self._tokens = tokens
        self._cache = cache

    def statistics(self) -> Entry:
        """Statistics of the targets' inputs, shared by all decompositions that are calibrated."""
        return self._cache.entry("statistics", self._measured())

    def output_gradients(self) -> Entry:
        """Statistics of the gradients at the targets' outputs."""
        settings = plain(self._config.decomposition.gradients())
        inputs = {"settings": settings, "targets": self._targets()}
        return self._cache.entry("output_gradients", {**self._measured(), **inputs})

    def factors(self) -> Entry:
        """Full-rank factors of every target."""
        inputs = {**self._targets(), "decomposition": self._config.decomposition.describe()}
        if self._config.decomposition.CALIBRATED:
            inputs["calibration"] = self._measured()
        return self._cache.entry("factors", inputs)

    def gradients(self, reduction: str) -> Entry:
        """Gradients of the weights, which several scores read."""
        return self._cache.entry("gradients", {**self._measured(), "reduction": reduction})

    def scores(self) -> Entry:
        """A score of every target."""
        inputs = {
            "sensitivity": self._config.sensitivity.describe(),
            "grouping": self._config.grouping.name,
        }
        return self._cache.entry("scores", {**self._measured(), **inputs})

    def probes(self) -> Entry:
        """Divergences of the model with truncated targets."""
        return self._cache.entry("probes", self.factors().inputs)

    def replies(self) -> Entry:
        """Replies that the search for a schedule has generated."""
        inputs = {"factors": self.factors().inputs, "model": self._model()}
        return self._cache.entry("replies", {**inputs, "form": self._config.form.describe()})

    def refined(self, plan: RankPlan) -> Entry:
        """Factors that were fitted to one plan."""
        inputs = {"factors": self.factors().inputs, "ranks": plan.ranks}
        inputs |= {**self._measured(), "refine": self._config.refine.describe()}
        return self._cache.entry("refined", inputs)

    def healed(self, plans: Plans, weights: Sequence[float], refined: bool) -> Entry:
        """Factors that were tuned for these plans; prefixes of them are good at no other rank."""
        inputs: dict[str, Any] = {
            "factors": (self.refined(plans.constant) if refined else self.factors()).inputs,
            "plans": [{**phase_json(phase), "ranks": plan.ranks} for phase, plan in plans.phases],
            "ranks": plans.constant.ranks,
            "weights": list(weights),
            "form": self._config.form.describe(),
            "heal": self._config.heal.describe(),
            "held_out": self._tokens[HELD_OUT],
        }
        return self._cache.entry("healed", {**self._measured(), **inputs})

    def generated(self, settings: Distilled) -> Entry:
        """Sequences that the dense model generates of the calibration sequences."""
        return self._cache.entry("generated", {**self._measured(), **settings.drawn})

    def dense_replies(self, evaluation: Evaluation, part: str, end: list[int]) -> Entry:
        """The dense model's replies in a part of an evaluation, which ``end`` tokens end."""
        inputs = {
            "model": self._model(),
            "settings": evaluation.reply_settings(part, self._config.data),
            "tokens": self._tokens[evaluation.title(part, self._config.data)],
            "end": end,
        }
        return self._cache.entry("dense_replies", inputs)

    def _model(self) -> dict[str, Any]:
        """What decides the dense model's numbers."""
        return {
            "fingerprint": self._config.model.fingerprint(),
            "dtype": self._config.dtype,
            "threads": self._config.threads,
            "device": self._config.device,
            "torch": importlib.metadata.version("torch"),
            "transformers": importlib.metadata.version("transformers"),
        }

    def _targets(self) -> dict[str, Any]:
        """What decides the model and its targets."""
        return {"model": self._model(), "grouping": self._config.grouping.name}

    def _measured(self) -> dict[str, Any]:
        """What decides everything that is measured on the model.

        Calibration is part of it only where it is read: its data need not be there otherwise.
        """
        inputs: dict[str, Any] = {"model": self._model()}
        if self._config.calibrates:
            calibration = _calibration(self._config) | {"tokens": self._tokens[CALIBRATION]}
            inputs["calibration"] = calibration
        return inputs


def _calibration(config: RunConfig) -> dict[str, Any]:
    """What decides the calibration sequences."""
    return {**config.calibration.inputs(config.data), "seed": config.seed}
