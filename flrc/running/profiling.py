"""Time and peak memory of each stage of a run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flrc.core.memory import peak_memory
from flrc.core.progress import display
from flrc.running.steps import Step

Item = TypeVar("Item")


@dataclass
class Stage:
    """One stage.

    Attributes:
        name: Its name in records and error messages.
        seconds: Wall-clock time.
        peak_bytes: Peak resident memory of the process during the stage, memory-mapped files (a
            model's weights) included.
        peak_anonymous_bytes: The same without mapped files, sampled fifty times a second; None if
            the system does not report it.
        peak_device_bytes: Peak memory allocated on the CUDA device; None without one.
        cached: Whether the result came from the cache.
    """

    name: str
    seconds: float = 0.0
    peak_bytes: int = 0
    peak_anonymous_bytes: int | None = None
    peak_device_bytes: int | None = None
    cached: bool = False


@dataclass
class Stages:
    """The stages of a run, in order.

    Attributes:
        done: Those that were measured.
        current: The stage the run is in, measured or not; after a failure, where it happened.
        steps: What is shown: the step of each stage, with its number.
    """

    done: list[Stage] = field(default_factory=list)
    current: str = "start"
    steps: Sequence[Step] = ()
    _step: Step | None = None

    @contextmanager
    def __call__(self, name: str) -> Iterator[Stage]:
        """Measure a stage; callers set ``cached`` on the stage that is yielded.

        A stage that is entered again adds to the first time.
        """
        stage = next((s for s in self.done if s.name == name), None)
        if stage is None:
            stage = Stage(name)
            self.done.append(stage)
        self.current = name
        self._show(name)
        started = time.perf_counter()
        peak: dict[str, int] = {}
        try:
            with peak_memory(peak):
                yield stage
        finally:
            stage.seconds += time.perf_counter() - started
            stage.peak_bytes = max(stage.peak_bytes, peak["resident"])
            if "anonymous" in peak:
                earlier = stage.peak_anonymous_bytes or 0
                stage.peak_anonymous_bytes = max(earlier, peak["anonymous"])
            if "device" in peak:
                stage.peak_device_bytes = max(stage.peak_device_bytes or 0, peak["device"])

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; making them counts as stage ``name``."""
        iterator = iter(items)
        while True:
            with self(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _show(self, name: str) -> None:
        """Show the step of a stage; stages that take turns within a step are shown once."""
        for number, step in enumerate(self.steps, 1):
            if name in step.stages and step is not self._step:
                self._step = step
                display.stage(f"[{number}/{len(self.steps)}] {step.title}")

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values."""
        return [dict(vars(stage)) for stage in self.done]
