"""What one sees while a command works: the stage, how far its loops are, and the time left.

On a terminal this is one line on standard error that is drawn again and again. Elsewhere (nohup,
SLURM, a pipe) it is a line when a stage starts, and one every half minute while it works.
"""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from flrc.core.memory import anonymous_memory, device_peak

Item = TypeVar("Item")

REDRAWN = 0.5
"""Seconds between two states of the line on a terminal; the times in it go on between items."""
HEARTBEAT = 30.0
"""Seconds after which a line is printed without a terminal."""
BETWEEN_ITEMS = 0.2
"""Seconds between two states of the line at most, if items follow faster."""


@dataclass
class _Loop:
    """A loop in progress: ``done`` items of ``total`` (None: unknown), each called a ``unit``."""

    doing: str
    unit: str
    total: int | None
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    before: int = field(init=False)
    """Items that were done before the loop started: they say nothing of its speed."""

    def __post_init__(self) -> None:
        self.before = self.done

    def position(self) -> str:
        if self.total is None:
            return f"{self.unit} {self.done + 1}".lstrip()
        return f"{self.unit} {min(self.done + 1, self.total)} of {self.total}".lstrip()

    def left(self) -> float | None:
        """Seconds left, if the items to come take as long as those that are done."""
        made = self.done - self.before
        if not made or self.total is None:
            return None
        spent = time.monotonic() - self.started
        return max(0.0, spent * (self.total - self.before) / made - spent)


@dataclass
class Display:
    """What this process shows, in one place.

    Attributes:
        job: Which job of a sweep this is, in front of every line; empty outside of sweeps.
        lines: Print lines even on a terminal, which several processes share.
    """

    job: str = ""
    lines: bool = False
    _stage: str = ""
    _since: float = 0.0
    _loops: list[_Loop] = field(default_factory=list)
    _shown: int = 0
    _paused: int = 0
    _last: float = 0.0
    _drawn: bool = False
    _memory: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def shown(self, stage: str = "") -> Iterator[None]:
        """While active, what is done is shown; may be nested.

        Args:
            stage: What is done until a stage starts; empty: as before.
        """
        with self._lock:
            if not self._shown:
                self._end()  # a loop that an exception has ended may not be closed yet
            self._shown += 1
            before = list(self._loops)
            if stage:
                self.stage(stage, announce=False)
            if self._shown == 1:
                self._begin()
        try:
            yield
        finally:
            with self._lock:
                self._shown -= 1
                self._loops[:] = before
                if not self._shown:
                    self._end()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While active, nothing is shown: another process shows what it does."""
        with self._lock:
            self.clear()
            self._paused += 1
        try:
            yield
        finally:
            with self._lock:
                self._paused -= 1
                self._last = time.monotonic()

    def stage(self, stage: str, *, announce: bool = True) -> None:
        """A stage starts; ``announce``: with a line, if standard error is not a terminal."""
        with self._lock:
            self._stage, self._since, self._memory = stage, time.monotonic(), 0
            if not self._shown and not self._loops:
                return
            _clear_before_logging()  # Hydra sets logging up anew for each job
            if self._terminal():
                self._draw()
            elif announce:
                self._print(self.text())

    def text(self) -> str:
        """The stage, how far its loops are, and the time left."""
        with self._lock:
            loops = list(self._loops)
            if not loops and not self._stage:
                return ""
            number, bracket, doing = self._stage.rpartition("] ")
            shown = loops[0].doing if loops else doing
            parts = [loop.position() for loop in loops[:1]]
            parts += [f"{loop.doing} {loop.position()}" for loop in loops[1:]]
            begun = [loop.started for loop in loops[:1]]
            left = next((s for loop in loops if (s := loop.left()) is not None), None)
            if left is not None:
                parts.append(f"{duration(left)} left")
            elif (spent := time.monotonic() - max([self._since, *begun])) >= 1:
                parts.append(f"{duration(spent)} so far")
            if self._memory:
                parts.append(f"{self._memory / 1e9:.1f} GB")
            job = f"{self.job}: " if self.job else ""
            return f"{job}{number}{bracket}{shown}" + (f": {', '.join(parts)}" if parts else "")

    def clear(self) -> None:
        """Take the line off the terminal, so that other output begins on a line of its own."""
        with self._lock:
            if self._drawn:
                self._drawn = False
                _write("\r\x1b[K")

    @contextmanager
    def loop(self, loop: _Loop) -> Iterator[None]:
        """A loop is part of what is shown; it is shown by itself if no command is."""
        with self._lock:
            self._loops.append(loop)
            if len(self._loops) == 1 and not self._shown:
                self._begin()
            self._redraw()
        try:
            yield
        finally:
            with self._lock:
                mine = any(other is loop for other in self._loops)  # else its command has ended
                self._loops[:] = [other for other in self._loops if other is not loop]
                if self._loops:
                    self._redraw()
                elif mine and not self._shown:
                    self._end()

    def advance(self, loop: _Loop) -> None:
        """An item of the loop is done."""
        with self._lock:
            loop.done += 1
            if self._terminal():
                self._memory = max(self._memory, _in_use())
                if time.monotonic() - self._last >= BETWEEN_ITEMS:
                    self._draw()

    def _end(self) -> None:
        """Nothing is shown any more."""
        self._ended.set()
        self.clear()
        self._loops.clear()
        self._stage, self._since, self._memory = "", 0.0, 0

    def _begin(self) -> None:
        self._last = time.monotonic()
        self._since = self._since or self._last
        self._ended = threading.Event()
        _clear_before_logging()
        self._redraw()
        threading.Thread(target=self._keep, args=(self._ended,), daemon=True).start()

    def _keep(self, ended: threading.Event) -> None:
        """Show the state again and again, also during a long step without a loop."""
        while not ended.wait(min(REDRAWN, HEARTBEAT / 4)):
            with self._lock:
                if ended.is_set():
                    return
                waited = time.monotonic() - self._last
                if self._terminal():
                    if waited >= REDRAWN:
                        self._draw()
                elif waited >= HEARTBEAT:
                    self._print(self.text())

    def _redraw(self) -> None:
        if self._terminal():
            self._draw()

    def _draw(self) -> None:
        text = self.text()
        if self._paused or not text:
            return
        width = shutil.get_terminal_size().columns - 1
        shown = text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"
        _write(f"\r{shown}\x1b[K")
        self._drawn, self._last = True, time.monotonic()

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        if text and not self._paused:
            _write(f"{text}\n")

    def _terminal(self) -> bool:
        with suppress(ValueError):  # standard error is closed
            return not self.lines and sys.stderr.isatty()
        return False


display = Display()
"""The one of this process."""


def progress(
    items: Iterable[Item], doing: str, total: int | None = None, unit: str = "", done: int = 0
) -> Iterator[Item]:
    """Yield the items while showing how many are done, and the time left.

    On a terminal, also the highest memory use seen after an item: on the GPUs if they are used,
    else of the process without mapped files. A loop within a loop is shown behind it.

    Args:
        items: What is worked on.
        doing: What is done with them: "calibrating".
        total: How many there are, those done before included; None: the length, if the items have
            one.
        unit: What one is called: "block".
        done: How many were done before, which are not among the items.
    """
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    loop = _Loop(doing, unit, total, done)
    with display.loop(loop):
        for item in items:
            yield item
            display.advance(loop)


def duration(seconds: float) -> str:
    """A time in its largest unit, rounded: ``12 s``, ``4 min``, ``2.5 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _ClearsLine(logging.Handler):
    """Takes the line off the terminal before the other handlers print a record."""

    def emit(self, record: logging.LogRecord) -> None:
        display.clear()


def _clear_before_logging() -> None:
    root = logging.getLogger()
    kept = [handler for handler in root.handlers if not isinstance(handler, _ClearsLine)]
    if kept:  # else there is nothing to be printed before, and logging has yet to be set up
        root.handlers[:] = [_ClearsLine(), *kept]


def _write(text: str) -> None:
    # Whoever read standard error may be gone; that must not end the work.
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _in_use() -> int:
    torch = sys.modules.get("torch")  # if it is not imported, no GPU is used
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return device_peak()
    return anonymous_memory() or 0
