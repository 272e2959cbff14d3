"""How a tuning went: losses by step, and which state was chosen."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """The loss on the held-out sequences.

    Attributes:
        step: Steps that had been made.
        held_out: The loss.
        seconds: Time since the beginning, of all attempts together.
    """

    step: int
    held_out: float
    seconds: float


@dataclass
class Course:
    """One tuning.

    Attributes:
        losses: The loss on the sequences of each step, before the step.
        checks: The losses on the held-out sequences.
        stopped: Why it ended before its last step; None if it did not.
        generated: How many of the tokens that it learnt from the dense model generated.
        spent: Seconds until its last step, of all attempts together.
    """

    losses: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    stopped: str | None = None
    generated: int = 0
    spent: float = field(default=0.0, compare=False)

    @property
    def chosen(self) -> int:
        """Steps of the state with the least held-out loss; 0: the untuned one."""
        known = (check for check in self.checks if math.isfinite(check.held_out))
        best = min(known, key=lambda check: check.held_out, default=None)
        return 0 if best is None else best.step

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values for records, the chosen step among them."""
        some: dict[str, Any] = {} if self.stopped is None else {"stopped": self.stopped}
        some |= {"generated": self.generated} if self.generated else {}
        checks = [asdict(check) for check in self.checks]
        return {"losses": self.losses, "checks": checks, "chosen": self.chosen, **some}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Course:
        """Read :meth:`to_json` back; without ``spent``, it is known until the last check."""
        checks = [Check(**check) for check in values["checks"]]
        spent = values.get("spent", checks[-1].seconds if checks else 0.0)
        stopped, made = values.get("stopped"), values.get("generated", 0)
        return cls(list(values["losses"]), checks, stopped, made, spent)
