"""Successive halving of schedules, whatever a trial is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flrc.core.progress import progress
from flrc.errors import UserError
from flrc.plans.phase import Phase
from flrc.search.candidates import Candidate


@dataclass(frozen=True)
class Trial:
    """What came out of generating for some items under a schedule.

    Attributes:
        scores: Of each item, larger is better.
        lengths: Tokens of each reply, the end-of-sequence token included.
        rate: Average rate over the forward steps of these replies.
        stored: Stored parameters of the targets over dense ones.
    """

    scores: list[float]
    lengths: list[int]
    rate: float
    stored: float


@dataclass
class _Running:
    candidate: Candidate
    phases: list[Phase] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    rate: float | None = None
    stored: float | None = None
    fate: str = ""

    @property
    def score(self) -> float:
        return statistics.fmean(self.scores) if self.scores else float("-inf")

    def row(self) -> dict[str, Any]:
        return {
            "switch": self.candidate.switch,
            "drop": self.candidate.drop,
            "phases": [{"step": p.step or 0, "rate": p.rate} for p in self.phases],
            "items": len(self.scores),
            "score": self.score if self.scores else None,
            "stderr": statistics.stdev(self.scores) / len(self.scores) ** 0.5
            if len(self.scores) > 1
            else None,
            "rate": self.rate,
            "tokens": statistics.fmean(self.lengths) if self.lengths else None,
            "stored": self.stored,
            "fate": self.fate,
        }


def _settle(
    alive: list[_Running],
    rate: float,
    items: range,
    trial: Callable[[list[Phase], range], Trial | str],
) -> None:
    """Sort by score, where the best has the rates that its own replies to all items ask for.

    Its last rates were those of the items before the last round; with others it is another
    schedule, so it is scored again, and may no longer be the best.
    """
    settled: set[int] = set()
    while True:
        alive.sort(key=lambda one: -one.score)
        best = alive[0]
        phases = best.candidate.phases(rate, best.lengths)
        if id(best) in settled or phases is None or phases == best.phases:
            return
        settled.add(id(best))
        outcome = trial(phases, items)
        if isinstance(outcome, str):
            return
        best.phases, best.scores, best.lengths = phases, outcome.scores, outcome.lengths
        best.rate, best.stored = outcome.rate, outcome.stored


def tournament(
    candidates: Sequence[Candidate],
    rate: float,
    counts: Sequence[int],
    trial: Callable[[list[Phase], range], Trial | str],
) -> tuple[list[Phase], list[dict[str, Any]]]:
    """The candidate with the best mean score after the last round.

    Args:
        candidates: What competes; the constant schedule, if among them, is in every round.
        rate: Average rate over the forward steps of realised replies.
        counts: Items seen after each round.
        trial: Generates under phases for a range of items; says why where it cannot.

    Returns:
        The phases of the best, and a row for each candidate, best first.

    Raises:
        UserError: If no candidate can be run.
    """
    running = [_Running(candidate) for candidate in candidates]
    alive = list(running)
    # The first lengths are those of the constant schedule, whether it competes or not.
    first = trial([Phase(0.0, rate)], range(counts[0]))
    if isinstance(first, str):
        raise UserError(
            "not even the constant schedule can be run",
            given=first,
            fix="a larger search.stored, or null for no limit",
        )
    seen = 0
    for number, count in enumerate(counts, 1):
        doing = f"searching the schedule, round {number} of {len(counts)}"
        for one in progress(alive, doing, len(alive)):
            phases = one.candidate.phases(rate, one.lengths or first.lengths)
            outcome: Trial | str = "a phase's rate leaves (0, 1)"
            if phases is not None:
                outcome = trial(phases, range(seen, count))
                one.phases = phases
            if isinstance(outcome, str):
                one.fate = outcome
                continue
            one.scores += outcome.scores
            one.lengths += outcome.lengths
            one.rate, one.stored = outcome.rate, outcome.stored
        seen = count
        alive = sorted((one for one in alive if not one.fate), key=lambda one: -one.score)
        if not alive:
            raise UserError(
                "no schedule of the search can be run",
                given="; ".join(dict.fromkeys(one.fate for one in running)),
                fix="other search.drops or search.switches, or a larger search.stored",
            )
        if number < len(counts):
            kept = alive[: -(-len(alive) // 2)]
            for one in alive[len(kept) :]:
                if one.candidate.constant:
                    kept.append(one)
                else:
                    one.fate = f"dropped after round {number}"
            alive = kept
    _settle(alive, rate, range(counts[-1]), trial)
    for place, one in enumerate(alive, 1):
        one.fate = "chosen" if place == 1 else "last round"
    order = sorted(running, key=lambda one: (one.fate != "chosen", -len(one.scores), -one.score))
    return alive[0].phases, [one.row() for one in order]
