"""How long each stage of a run took, and how much memory it needed at its peak."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flrc.core.memory import peak_memory

Item = TypeVar("Item")


@dataclass
class Stage:
    """One stage.

    Attributes:
        name: What was done.
        seconds: Wall-clock time.
        peak_bytes: Peak resident memory of the process during the stage, files that are mapped into
            memory (a model's weights) included.
        peak_anonymous_bytes: The same without mapped files, sampled fifty times a second; None
            where the system does not say.
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
        current: What is going on, measured or not: where a failure happened.
    """

    done: list[Stage] = field(default_factory=list)
    current: str = "start"

    @contextmanager
    def __call__(self, name: str) -> Iterator[Stage]:
        """Measure a stage; set ``cached`` on what is yielded where it applies.

        A stage that is entered again under its name adds to the earlier one.
        """
        stage = next((s for s in self.done if s.name == name), None)
        if stage is None:
            stage = Stage(name)
            self.done.append(stage)
        self.current = name
        begin = time.perf_counter()
        peak: dict[str, int] = {}
        try:
            with peak_memory(peak):
                yield stage
        finally:
            stage.seconds += time.perf_counter() - begin
            stage.peak_bytes = max(stage.peak_bytes, peak["resident"])
            if "anonymous" in peak:
                earlier = stage.peak_anonymous_bytes or 0
                stage.peak_anonymous_bytes = max(earlier, peak["anonymous"])
            if "device" in peak:
                stage.peak_device_bytes = max(stage.peak_device_bytes or 0, peak["device"])

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items; the time and memory that making them takes count as stage ``name``."""
        iterator = iter(items)
        while True:
            with self(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values."""
        return [dict(vars(stage)) for stage in self.done]
