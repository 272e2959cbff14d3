"""Minimises an expensive function of a few variables with one of Optuna's samplers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from flrc.allocator.divergence import no_finite_loss
from flrc.core.progress import progress

log = logging.getLogger(__name__)

WORST = 1e6
"""What is reported to the sampler where the objective is larger or not finite."""


def best_trial(
    trials: int,
    space: Mapping[str, tuple[float, float]],
    objective: Callable[[dict[str, float]], float],
    sampler: str,
    *,
    seed: int,
    doing: str,
) -> dict[str, float]:
    """The values with the lowest objective among those that a seeded sampler tries.

    Trials run one after another and nothing is stored. Of equal trials the earliest wins. The space
    is the lowest and highest value by variable; the objective is not finite where the model is
    broken. Samplers are ``GPSampler`` (Gaussian process, Bayesian optimisation) and ``TPESampler``
    (tree-structured Parzen estimator); both draw their first ten trials at random.

    Raises:
        UserError: If no trial gave a finite objective.
    """
    import optuna

    # Not warnings: Optuna warns about an optional package that is not installed.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))
    best: tuple[float, dict[str, float]] = (math.inf, {})
    for number in progress(range(trials), doing, unit="trial"):
        trial = study.ask()
        values = {name: trial.suggest_float(name, *ends) for name, ends in space.items()}
        loss = objective(values)
        study.tell(trial, min(loss, WORST) if math.isfinite(loss) else WORST)
        log.debug("trial %d: %s gives %.6g", number, values, loss)
        if math.isfinite(loss) and loss < best[0]:
            best = (loss, values)
    if not best[1]:
        raise no_finite_loss("in any trial of the search", f"{trials} trials")
    log.info("%s: the best of %d trials gives %.6g, with %s", doing, trials, *best)
    return best[1]
