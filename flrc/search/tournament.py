"""Successive halving of candidate schedules, for any way to run a trial."""

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
    """The outcome of generating for some items under a schedule.

    Attributes:
        scores: Score of each item; larger is better.
        lengths: Tokens of each reply, the end-of-sequence token included.
        rate: Average rate over the forward steps of these replies.
        stored: Stored parameters of the targets over dense ones.
    """

    scores: list[float]
    lengths: list[int]
    rate: float
    stored: float


RunTrial = Callable[[list[Phase], range], Trial | str]
"""Generates under phases for a range of items; returns the reason if it cannot."""


@dataclass
class _Entrant:
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

    def add(self, trial: Trial) -> None:
        self.scores += trial.scores
        self.lengths += trial.lengths
        self.rate, self.stored = trial.rate, trial.stored

    def row(self) -> dict[str, Any]:
        count = len(self.scores)
        return {
            "switch": self.candidate.switch,
            "drop": self.candidate.drop,
            "phases": [{"step": p.step or 0, "rate": p.rate} for p in self.phases],
            "items": count,
            "score": self.score if count else None,
            "stderr": statistics.stdev(self.scores) / count**0.5 if count > 1 else None,
            "rate": self.rate,
            "tokens": statistics.fmean(self.lengths) if self.lengths else None,
            "stored": self.stored,
            "fate": self.fate,
        }


def _by_score(entrants: Sequence[_Entrant]) -> list[_Entrant]:
    return sorted(entrants, key=lambda entrant: -entrant.score)


def tournament(
    candidates: Sequence[Candidate], rate: float, counts: Sequence[int], run_trial: RunTrial
) -> tuple[list[Phase], list[dict[str, Any]]]:
    """The candidate with the best mean score after the last round; the constant is never dropped.

    ``rate`` is the average over the forward steps of realised replies; ``counts`` are the items
    seen after each round.

    Returns:
        The phases of the best candidate, and a row for each candidate, best first.

    Raises:
        UserError: If no candidate can be run.
    """
    entrants = [_Entrant(candidate) for candidate in candidates]
    alive = list(entrants)
    # The first lengths are those of the constant schedule, whether it competes or not.
    first = run_trial([Phase(0.0, rate)], range(counts[0]))
    if isinstance(first, str):
        raise UserError(
            "not even the constant schedule can be run",
            given=first,
            fix="a larger search.stored, or null for no limit",
        )
    seen = 0
    for number, count in enumerate(counts, 1):
        doing = f"searching the schedule, round {number} of {len(counts)}"
        for entrant in progress(alive, doing, unit="candidate"):
            phases = entrant.candidate.phases(rate, entrant.lengths or first.lengths)
            if phases is None:
                entrant.fate = "a phase's rate leaves (0, 1)"
                continue
            entrant.phases = phases
            outcome = run_trial(phases, range(seen, count))
            if isinstance(outcome, str):
                entrant.fate = outcome
            else:
                entrant.add(outcome)
        seen = count
        alive = _by_score([entrant for entrant in alive if not entrant.fate])
        if not alive:
            raise UserError(
                "no schedule of the search can be run",
                given="; ".join(dict.fromkeys(entrant.fate for entrant in entrants)),
                fix="other search.drops or search.switches, or a larger search.stored",
            )
        if number < len(counts):
            alive = _better_half(alive, number)
    alive = _at_final_rates(alive, rate, range(counts[-1]), run_trial)
    for place, entrant in enumerate(alive, 1):
        entrant.fate = "chosen" if place == 1 else "last round"
    order = sorted(entrants, key=lambda e: (e.fate != "chosen", -len(e.scores), -e.score))
    return alive[0].phases, [entrant.row() for entrant in order]


def _better_half(alive: Sequence[_Entrant], number: int) -> list[_Entrant]:
    """The better half of the entrants, and the constant schedule."""
    kept = list(alive[: -(-len(alive) // 2)])
    for entrant in alive[len(kept) :]:
        if entrant.candidate.constant:
            kept.append(entrant)
        else:
            entrant.fate = f"dropped after round {number}"
    return kept


def _at_final_rates(
    alive: Sequence[_Entrant], rate: float, items: range, run_trial: RunTrial
) -> list[_Entrant]:
    """Sorted by score, with the rates of the best recomputed from all of its replies.

    Its last rates were computed from the replies before the last round. New rates make another
    schedule, so it is scored again and may no longer be the best.
    """
    rescored: set[int] = set()
    while True:
        alive = _by_score(alive)
        best = alive[0]
        phases = best.candidate.phases(rate, best.lengths)
        if id(best) in rescored or phases is None or phases == best.phases:
            return alive
        rescored.add(id(best))
        outcome = run_trial(phases, items)
        if isinstance(outcome, str):
            return alive
        best.phases, best.scores, best.lengths = phases, [], []
        best.add(outcome)
