"""Successive halving over two-phase schedules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from flrc.schedule.base import Schedule
from flrc.search.base import Compression, SearchResult
from flrc.search.generating_search import GeneratingSearch


@dataclass
class Halving(GeneratingSearch):
    """Combines every switch point with every drop; after each round the better half stays.

    A candidate's rates average to the requested rate over the forward steps of realised replies: in
    the first round those of the constant schedule, from the second round on its own. The best
    candidate is finally scored once more at the rates that follow from all its replies. Each round
    generates for new items, and candidates are ranked by their mean score over all items so far.
    With ``schedule=progressive`` the constant schedule competes too and is never dropped, so the
    winner is at least as good on these items; ``schedule=increasing`` is searched without it.

    Source: FLRC (arXiv 2510.09332), appendix C: candidates are scored on a calibration set (500
        dialogues of DialogSum's train split) by, for instance, BERTScore.
    Differs: the paper specifies neither candidates nor a strategy; successive halving (Jamieson and
        Talwalkar, arXiv 1502.07943) and rates by realised lengths are our choices.

    Attributes:
        rounds: Number of rounds; each sees twice the items of the one before, the last all of them,
            and keeps the better half of the candidates.
        switches: Candidate lengths of the first phase in forward steps, the prefill included.
        drops: Candidate differences in rate between the second phase and the first.
    """

    VERSION: ClassVar[int] = 2  # 1 kept the rates of the last round

    name: str = "halving"
    rounds: int = 2
    switches: list[int] = field(default_factory=lambda: [8, 16])
    drops: list[float] = field(default_factory=lambda: [0.1, 0.2])

    def check(self) -> None:
        """Also checks rounds, switch points and drops."""
        super().check()
        self.require(self.rounds >= 1, "rounds", "an integer of at least 1")
        longest = self.max_new_tokens - 1
        inside = bool(self.switches) and all(1 <= switch <= longest for switch in self.switches)
        self.require(inside, "switches", f"numbers of forward steps from 1 to {longest}")
        inside = bool(self.drops) and all(0 < drop < 1 for drop in self.drops)
        self.require(inside, "drops", "numbers in (0, 1)")

    def generations(self, direction: int) -> list[int]:
        """Every candidate's new items in each round, and the winner's once more at its rates."""
        from flrc.search.candidates import grid, rounds

        alive = len(grid(self.switches, self.drops, direction, with_constant=direction > 0))
        counts = rounds(self.samples, self.rounds)
        # The constant schedule gives the first lengths, whether it competes or not.
        found, seen = [] if direction > 0 else [counts[0]], 0
        for count in counts:
            found += [count - seen] * alive
            seen, alive = count, -(-alive // 2)
        return [*found, counts[-1]]

    def search(self, schedule: Schedule, rate: float, compression: Compression) -> SearchResult:
        """The best candidate after the last round, found by generating under each of them."""
        from flrc.search.candidates import grid, rounds
        from flrc.search.tournament import tournament
        from flrc.search.trials import Trials

        direction = schedule.DIRECTION
        candidates = grid(self.switches, self.drops, direction, with_constant=direction > 0)
        with compression.entry.lock():
            trials = Trials(self, compression)
            best, rows = tournament(candidates, rate, rounds(self.samples, self.rounds), trials)
        return trials.result(best, rows)
