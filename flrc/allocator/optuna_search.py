"""A few trials of a sampler: Optuna, in one place and quiet."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flrc.core.progress import progress
from flrc.errors import UserError, choose

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

log = logging.getLogger(__name__)

SAMPLERS = ("gp", "tpe")
WORST = 1e6
"""What the sampler is told where the objective is larger or not finite."""


def best_trial(
    trials: int,
    space: Mapping[str, tuple[float, float]],
    objective: Callable[[dict[str, float]], float],
    *,
    sampler: str,
    seed: int,
    doing: str,
) -> dict[str, float]:
    """The values with the least objective among those a seeded sampler tries.

    Trials run one after another, and nothing is stored; equal objectives go to the earlier trial.

    Args:
        trials: How many.
        space: Lowest and highest value by variable.
        objective: What is to be small. Not finite: a broken model, the worst there is.
        sampler: ``gp`` (Gaussian process, Bayesian optimisation) or ``tpe`` (tree-structured
            Parzen estimator); both draw their first ten trials at random.
        seed: Of the sampler.
        doing: What the progress bar says.

    Raises:
        UserError: If no trial gave a finite objective.
    """
    import optuna

    choose("sampler", sampler, SAMPLERS)
    # Errors only: a warning of its own says that an accelerator package is not installed.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers: dict[str, Callable[[], BaseSampler]] = {
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
    }
    study = optuna.create_study(sampler=samplers[sampler](), direction="minimize")
    best: tuple[float, dict[str, float]] = (math.inf, {})
    for number in progress(range(trials), doing, trials):
        trial = study.ask()
        values = {name: trial.suggest_float(name, *ends) for name, ends in space.items()}
        found = objective(values)
        study.tell(trial, min(found, WORST) if math.isfinite(found) else WORST)
        log.debug("trial %d: %s gives %.6g", number, values, found)
        if math.isfinite(found) and found < best[0]:
            best = (found, values)
    if not best[1]:
        raise UserError(
            "the cut model gave no finite loss in any trial of the search",
            given=f"{trials} trials",
            allowed="a rate at which the model still gives finite numbers",
            fix="a lower rate, or dtype=float32",
        )
    log.info("%s: the best of %d is %.6g, with %s", doing, trials, *best)
    return best[1]
