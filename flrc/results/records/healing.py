"""How a run was healed, as its record holds it: losses by step, and the state that was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from flrc.results.records.record import Record


@dataclass(frozen=True)
class HeldOut:
    """The loss on the held-out calibration sequences.

    Attributes:
        step: Steps that had been made.
        loss: Not finite if the tuning diverged.
        seconds: Since the tuning began, of all attempts together.
    """

    step: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Tuning:
    """One tuning: of the whole model, or of one decoder block.

    Attributes:
        losses: Of each step's sequences, before the step.
        checks: On the held-out sequences; the first one before any step.
        chosen: Steps of the state that was kept; 0: the untuned one.
        stopped: Why it ended before its last step; None if it did not.
    """

    losses: Sequence[float]
    checks: Sequence[HeldOut]
    chosen: int
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """How many were made."""
        return len(self.losses)

    @property
    def before(self) -> float:
        """The held-out loss before any step."""
        return self.checks[0].loss

    @property
    def after(self) -> float:
        """The held-out loss of the state that was kept."""
        return self.kept.loss

    @property
    def kept(self) -> HeldOut:
        """The check of the state that was kept."""
        return next(check for check in self.checks if check.step == self.chosen)

    @property
    def seconds(self) -> float:
        """Until the last check."""
        return self.checks[-1].seconds

    @property
    def untuned(self) -> bool:
        """Whether steps were made, and none of them was kept."""
        return self.steps > 0 and self.chosen == 0


@dataclass(frozen=True)
class Healing:
    """The healing of one run.

    Attributes:
        kind: The component's name: ``distilled``, ``blockwise`` ...
        blocks: The tunings of decoder blocks by index; empty if only the whole model was tuned.
            Their loss is the error of a block's outputs, as a share of what the dense block adds.
        whole: The tuning of the whole model, whose loss is the KL divergence to the dense model's
            next-token distributions in nats per token; None if only blocks were tuned.
        tokens: Calibration tokens that the run used, the held-out ones included.
        held_out: Calibration sequences that only judged.
    """

    kind: str
    blocks: Mapping[int, Tuning]
    whole: Tuning | None
    tokens: int
    held_out: int

    @property
    def tunings(self) -> list[Tuning]:
        """All, in order."""
        return [*self.blocks.values(), *([self.whole] if self.whole else [])]

    @property
    def seconds(self) -> float:
        """Of all tunings: their steps and checks."""
        return sum(tuning.seconds for tuning in self.tunings)

    @property
    def block_steps(self) -> int:
        """Steps of all blocks together."""
        return sum(tuning.steps for tuning in self.blocks.values())

    @property
    def block_errors(self) -> tuple[float, float] | None:
        """The mean of the blocks' held-out errors, untuned and as kept; None without blocks.

        A block is judged behind the blocks before it, as these were kept.
        """
        if not self.blocks:
            return None
        blocks = self.blocks.values()
        return fmean(block.before for block in blocks), fmean(block.after for block in blocks)

    def __str__(self) -> str:
        """On one line: what was done, in how long, and what it brought."""
        parts = []
        if errors := self.block_errors:
            before, after = (f"{100 * error:.3g} %" for error in errors)
            parts.append(
                f"{len(self.blocks)} blocks, {self.block_steps} steps: mean held-out error "
                f"{before} -> {after}"
            )
        if (whole := self.whole) is not None:
            parts.append(
                f"{whole.steps} steps end to end: held-out KL {whole.before:.4g} -> "
                f"{whole.after:.4g} nats per token, step {whole.chosen} kept"
            )
        parts.append(f"{self.seconds:.0f} s" if self.seconds >= 10 else f"{self.seconds:.2g} s")
        parts.append(f"{self.tokens:,} tokens, {self.held_out} sequences of them held out")
        return f"{self.kind}: {'; '.join(parts + self.warnings)}"

    @property
    def warnings(self) -> list[str]:
        """Tunings that diverged, and those of which the untuned state was kept."""
        found = []
        if (whole := self.whole) is not None and whole.stopped:
            found.append(f"{whole.stopped}; the state after step {whole.chosen} was kept")
        elif whole is not None and whole.untuned:
            found.append("the untuned model was kept: no step lowered the held-out KL")
        for blocks, what in (
            ([i for i, b in self.blocks.items() if b.stopped], "diverged"),
            ([i for i, b in self.blocks.items() if b.untuned and not b.stopped], "stayed untuned"),
        ):
            if blocks:
                numbers = ", ".join(map(str, blocks))
                found.append(f"{len(blocks)} of {len(self.blocks)} blocks {what}: {numbers}")
        return found


def healing_of(record: Record) -> Healing | None:
    """The healing of a run; None if nothing was healed."""
    known = record.results.get("healing")
    if not known:
        return None
    # A model that was tuned after its run has other settings than the run.
    settings = known.get("settings") or record.run.get("config", {}).get("heal", {})
    whole = known.get("distilled")
    return Healing(
        kind=str(settings.get("name", "healed")),
        blocks={int(block["block"]): _tuning(block) for block in known.get("blockwise", [])},
        whole=None if whole is None else _tuning(whole),
        tokens=int(known["tokens"]),
        held_out=_held_out(settings),
    )


def _tuning(values: Mapping[str, Any]) -> Tuning:
    checks = [HeldOut(int(c["step"]), c["held_out"], c["seconds"]) for c in values["checks"]]
    return Tuning(list(values["losses"]), checks, int(values["chosen"]), values.get("stopped"))


def _held_out(settings: Mapping[str, Any]) -> int:
    """Of a kind, or the larger number of its parts."""
    parts = [settings, *(part for part in settings.values() if isinstance(part, dict))]
    return max((int(part["held_out"]) for part in parts if "held_out" in part), default=0)
