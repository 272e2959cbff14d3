"""States of a tuning: the best so far, and the one from which an interrupted run continues."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from safetensors import safe_open
from torch import Tensor

from flrc.core.cache import Entry
from flrc.healing.course import Course
from flrc.healing.optimizer import MasterOptimizer
from flrc.healing.trained import Trained

LATEST, BEST = "latest.safetensors", "best.safetensors"
SAVED_AFTER = 60.0
"""Seconds after which the state is saved again ..."""
SAVING = 20
"""... and at least this many times as long as saving took."""
MASTER, MOMENT, COURSE = "master/", "moment/", "course"


class States(ABC):
    """Where states are kept."""

    @abstractmethod
    def keep(self, trained: Trained) -> None:
        """Remember the masters as the best so far."""

    @abstractmethod
    def best(self) -> dict[str, Tensor]:
        """The masters that were remembered last."""

    @abstractmethod
    def save(self, course: Course, trained: Trained, optimizer: MasterOptimizer) -> None:
        """Save the whole state, if it is time."""

    @abstractmethod
    def resume(self, trained: Trained, optimizer: MasterOptimizer) -> Course | None:
        """Continue from the state that was saved last; None if there is none."""


@dataclass
class StatesInMemory(States):
    """For tunings that are short: an interrupted one begins anew."""

    _best: dict[str, Tensor] = field(default_factory=dict)

    def keep(self, trained: Trained) -> None:
        """Copies the masters."""
        self._best = {name: master.clone() for name, master in trained.masters.items()}

    def best(self) -> dict[str, Tensor]:
        """The copies."""
        return self._best

    def save(self, course: Course, trained: Trained, optimizer: MasterOptimizer) -> None:
        """Saves nothing."""

    def resume(self, trained: Trained, optimizer: MasterOptimizer) -> Course | None:
        """There is nothing to continue from."""
        return None


@dataclass
class StatesOnDisk(States):
    """In a cache entry: memory holds no second copy, and nothing is lost on a crash.

    The file of the best state is at least as new as the latest state's: if a run continues before
    it, the same steps make the same best state again.

    Attributes:
        entry: Where; the caller holds it.
    """

    entry: Entry
    _saved: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    def keep(self, trained: Trained) -> None:
        """Writes the masters."""
        self.entry.write_tensors(BEST, dict(trained.masters), {})

    def best(self) -> dict[str, Tensor]:
        """Reads them."""
        with safe_open(self.entry.path / BEST, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def save(self, course: Course, trained: Trained, optimizer: MasterOptimizer) -> None:
        """Writes masters, moments and the course, in one file."""
        begun = time.monotonic()
        if begun - self._saved < max(SAVED_AFTER, SAVING * self._took):
            return
        tensors = {MASTER + name: master for name, master in trained.masters.items()}
        tensors |= {MOMENT + name: moment for name, moment in optimizer.state().items()}
        notes = {**course.to_json(), "spent": course.spent}
        self.entry.write_tensors(LATEST, tensors, {COURSE: json.dumps(notes)})
        self._saved = time.monotonic()
        self._took = self._saved - begun

    def resume(self, trained: Trained, optimizer: MasterOptimizer) -> Course | None:
        """Reads them."""
        if not (self.entry.has(LATEST) and self.entry.has(BEST)):
            return None
        with safe_open(self.entry.path / LATEST, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            course = Course.from_json(json.loads(file.metadata()[COURSE]))
        trained.restore(_under(MASTER, tensors))
        optimizer.restore(_under(MOMENT, tensors))
        return course


def remove_states(entry: Entry) -> None:
    """Delete what an interrupted tuning would have continued from: its result is stored."""
    for name in (LATEST, BEST):
        (entry.path / name).unlink(missing_ok=True)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
