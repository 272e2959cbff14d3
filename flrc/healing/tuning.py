"""The loop of every tuning: steps, checks on held-out sequences, the best state at the end."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod

from flrc.core.progress import progress
from flrc.healing.course import Check, Course
from flrc.healing.gradient_tuning import GradientTuning
from flrc.healing.learning_rate import learning_rate
from flrc.healing.optimizer import MasterOptimizer
from flrc.healing.states import States, StatesInMemory
from flrc.healing.trained import Trained

log = logging.getLogger(__name__)

DIVERGED = 1.5
"""A held-out loss of this many times the untuned one ends the tuning."""


class Objective(ABC):
    """What a tuning minimises."""

    @abstractmethod
    def backward(self, step: int) -> float:
        """Add the gradients of a step's sequences to the parameters; their mean loss by tokens."""

    @abstractmethod
    def judge(self) -> float:
        """The mean loss on the held-out sequences, by tokens."""


def tune(
    objective: Objective,
    trained: Trained,
    settings: GradientTuning,
    steps: int,
    states: States,
    doing: str,
) -> Course:
    """Tune the parameters; afterwards they have the state with the least held-out loss.

    Args:
        objective: What is minimised.
        trained: What is tuned.
        settings: How.
        steps: How many steps.
        states: Where states are kept.
        doing: What is shown while it works.
    """
    if not trained.parameters:  # every target is dense, or has no rank at all
        states, steps = StatesInMemory(), 0
    optimizer = MasterOptimizer(settings, trained.masters)
    course = states.resume(trained, optimizer) or Course()
    begun = time.monotonic() - course.spent
    checked = {round(steps * (i + 1) / settings.checks) for i in range(settings.checks)}

    def check() -> None:
        made = len(course.losses)
        held_out = objective.judge()
        course.checks.append(Check(made, held_out, time.monotonic() - begun))
        if made == course.chosen:
            states.keep(trained)
        if not held_out <= DIVERGED * course.checks[0].held_out:
            course.stopped = f"diverged: held-out loss {held_out:.4g} after step {made}"

    if not course.checks:
        check()
    made = len(course.losses)
    for step in progress(range(made, steps), doing, unit="step", done=made):
        if course.stopped:
            break
        with trained.requiring_grad():
            loss = objective.backward(step)
            trained.hand_gradients()
        if not math.isfinite(loss):
            course.stopped = f"diverged: the loss of step {step + 1} is {loss}"
            break
        optimizer.step(learning_rate(step, steps, settings.warmup, settings.floor))
        trained.round()
        course.losses.append(loss)
        if step + 1 in checked:
            check()
        course.spent = time.monotonic() - begun
        states.save(course, trained, optimizer)
    if course.stopped:
        log.warning("%s; the state after step %d is kept", course.stopped, course.chosen)
    trained.restore(states.best())
    return course
