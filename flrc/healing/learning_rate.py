"""The learning rate of every step (pure maths)."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, warmup: float, floor: float) -> float:
    """Share of the largest learning rate at a step, counted from 0, of ``steps``.

    Linear in the warm-up, whose first step is above 0; then half a cosine that reaches ``floor`` at
    the last step.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    falling = steps - 1 - rising
    done = (step - rising) / falling if falling > 0 else 1.0
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
