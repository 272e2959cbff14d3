"""The settings that every kind of tuning by gradients has."""

from __future__ import annotations

from dataclasses import dataclass

from flrc.errors import choose
from flrc.healing.base import Healing

MOMENTS = {"adamw": 8, "adamw_8bit": 2, "muon": 4}
"""Optimiser -> bytes of the moments of a number in a matrix."""


@dataclass
class GradientTuning(Healing):
    """A number of passes over the calibration sequences, in an order drawn for each pass.

    The learning rate rises linearly during the warm-up, and then falls along half a cosine.

    Attributes:
        passes: Passes over the calibration sequences; 0: nothing is changed.
        learning_rate: The largest learning rate.
        warmup: Share of the steps during which the learning rate rises.
        floor: The learning rate of the last step, as a share of the largest.
        batch_size: Sequences of one step.
        optimizer: ``adamw``; ``adamw_8bit``: its moments as 8-bit integers (bitsandbytes);
            ``muon``: orthogonalised momentum for matrices, AdamW for vectors.
        beta1: Decay of the first moment; the momentum of Muon.
        beta2: Decay of the second moment.
        weight_decay: Decoupled weight decay.
        clip: Largest norm of all gradients together; null: they are not clipped.
        vectors: Whether norms and biases are tuned too.
        dense: Whether layers of the decoder blocks that stayed dense are tuned too.
        held_out: Calibration sequences, drawn in addition, that neither statistics nor tuning see:
            the state with the least loss on them is kept, the untuned one among them.
        checks: How often the loss on them is measured, besides before the first step.
    """

    passes: int = 1
    learning_rate: float = 5e-5
    warmup: float = 0.1
    floor: float = 0.05
    batch_size: int = 1
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    clip: float | None = None
    vectors: bool = False
    dense: bool = False
    held_out: int = 4
    checks: int = 2

    @property
    def unseen(self) -> int:
        """``held_out``."""
        return self.held_out

    def check(self) -> None:
        """Checks the ranges."""
        choose("heal.optimizer", self.optimizer, MOMENTS)
        self.require(self.passes >= 0, "passes", "an integer of at least 0")
        for name in ("learning_rate", "weight_decay"):
            self.require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)")
        for name in ("warmup", "floor"):
            self.require(0 <= getattr(self, name) <= 1, name, "a number in [0, 1]")
        for name in ("beta1", "beta2"):
            self.require(0 <= getattr(self, name) < 1, name, "a number in [0, 1)")
        for name in ("batch_size", "held_out", "checks"):
            self.require(getattr(self, name) >= 1, name, "an integer of at least 1")
        self.require(self.clip is None or self.clip > 0, "clip", "null, or a number above 0")

    def needs(self) -> tuple[str, ...]:
        """bitsandbytes, for moments of 8 bits."""
        return ("bitsandbytes",) if self.optimizer == "adamw_8bit" else ()

    def held(self, numbers: float, itemsize: int) -> float:
        """Bytes of the gradients, moments and master copies of so many numbers."""
        return numbers * (4 + MOMENTS[self.optimizer] + (4 if itemsize < 4 else 0))

    def steps(self, sequences: int) -> int:
        """Steps of all passes; the last one of a pass may have fewer sequences."""
        return self.passes * -(-sequences // self.batch_size)
