"""What a healing is given: a model about to be compressed, its plans, its sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from flrc.calibration.dense_model import DenseModel
from flrc.core.cache import Entry
from flrc.form.base import Form
from flrc.healing.course import Course
from flrc.healing.draws import Tuned
from flrc.healing.end_to_end import NextTokens, distil
from flrc.healing.lessons import Lesson, lessons
from flrc.healing.pivot_exchange import exchange_pivots
from flrc.healing.states import StatesOnDisk
from flrc.plans.target import Target

if TYPE_CHECKING:
    from flrc.healing.distilled import Distilled


@dataclass(frozen=True)
class HealingInput:
    """What a healing works on.

    Attributes:
        dense: The model, its targets and the sequences that it is tuned on.
        unseen: The sequences that it is judged by.
        plans: The plans that are tuned.
        form: How factors are stored.
        replace: Replaces targets by their factored layers; their dense weights are freed.
        entry: Where states are kept; the caller holds it.
        generated: Where the sequences are kept that the dense model generates.
        recomputed: Whether activations are recomputed in the backward pass.
    """

    dense: DenseModel
    unseen: Sequence[Tensor]
    plans: Sequence[Tuned]
    form: Form
    replace: Callable[[Sequence[Target]], None]
    entry: Entry
    generated: Callable[[Distilled], Entry]
    recomputed: bool

    def lessons(self, settings: Distilled) -> tuple[Lesson, Lesson]:
        """The sequences with the dense model's states: seen and unseen. The model is dense."""
        return lessons(self.dense, self.unseen, settings, self.generated(settings))


def distilled(given: HealingInput, settings: Distilled, lessons: tuple[Lesson, Lesson]) -> Course:
    """Tune the compressed model end to end; pivots are exchanged where the bound asks for it.

    What an interrupted tuning continues from stays in the entry until the result is there, too.
    """
    seed = given.dense.seed
    objective = NextTokens(given.dense.model, *lessons, given.plans, settings, seed)
    states = StatesOnDisk(given.entry)
    trained, course = distil(objective, states, given.recomputed)
    exchange_pivots(given.dense.model, given.form, trained)
    return course
