"""Measures a model with some targets truncated, recomputing only what changes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from transformers import PreTrainedModel

from flrc.allocator.divergence import Divergence, MeanDivergence
from flrc.allocator.partial_run import Batch, Cost, PartialRun
from flrc.core import jsonfile
from flrc.core.cache import Entry
from flrc.core.progress import progress
from flrc.models.anatomy.replaced_forwards import Factors, truncated
from flrc.plans.target import Target

log = logging.getLogger(__name__)

TOKENS = 8192
"""Largest number of tokens in one batch of candidates (one sequence may be longer)."""
VERSION = 1
"""Raised whenever the same measurement gets another result."""


class Probe:
    """Divergence of the model with truncated targets from the dense one.

    A block's candidates start from the dense hidden states at that block, which are propagated
    once, and go through the remaining blocks together. Of the dense model only the output of the
    last block is kept (tokens times width); its log-probabilities are recomputed from it, one batch
    of at most an eighth of ``tokens`` (or one sequence) at a time, so that no more than three
    arrays of that many tokens times the vocabulary exist at once.

    Nothing is measured twice. With ``entry`` that also holds across processes: answers are written
    after every block, and the next process continues from there. The probe locks the entry itself.

    The model is in evaluation mode, and left exactly as it was. ``factors`` maps a target's name
    and a rank to ``(left_t, right)``; the first rows of a higher rank's factors are those of a
    lower rank. Sequences are token ids ``(tokens,)``, two or more each. The key of ``entry`` must
    decide model, targets and factors; the sequences decide the name of the file in it. ``tokens``
    is the largest number of tokens in one batch of candidates.

    Attributes:
        cost: Cost of the measurements of this object.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        targets: Sequence[Target],
        factors: Callable[[str, int], Factors],
        sequences: Sequence[Tensor],
        entry: Entry | None = None,
        *,
        tokens: int = TOKENS,
    ) -> None:
        self.model = model
        self.targets = {target.name: target for target in targets}
        self.factors = factors
        self.entry = entry
        self.cost = Cost()
        self._run = PartialRun(model, sequences, tokens)
        self._known: dict[str, tuple[Divergence, Cost]] = {}
        self._asked: set[str] = set()
        self._since = 0.0
        digest = hashlib.sha256(f"version {VERSION}".encode())
        for sequence in sequences:
            digest.update(f"{len(sequence)}:".encode() + sequence.cpu().numpy().tobytes())
        self._file = f"divergences_{digest.hexdigest()[:16]}.json"

    @property
    def dense(self) -> Divergence:
        """The dense model; its divergence from itself is 0."""
        return self._run.dense[0]

    def single(self, candidates: Mapping[str, Sequence[int]]) -> dict[str, list[Divergence]]:
        """The divergence of each rank by target name, with everything else dense."""
        with self._held():
            wanted = self._unknown(candidates)
            if wanted:
                count = sum(len(ranks) for ranks in wanted.values())
                steps = count * len(self._run.dense[1])
                doing = f"measuring {count} truncations"
                for _ in progress(self._measure(wanted), doing, steps, "step"):
                    pass
        return {n: [self._answer(_key(n, k)) for k in ranks] for n, ranks in candidates.items()}

    def plan(self, ranks: Mapping[str, int | None]) -> Divergence:
        """The model under a whole plan; a target whose rank is None or missing stays dense."""
        cuts = {name: rank for name, rank in ranks.items() if rank is not None}
        key = f"plan/{jsonfile.digest(cuts, 20)}"
        with self._held():
            if key not in self._known:
                self._save({key: self._whole(cuts)})
        return self._answer(key)

    @property
    def total(self) -> Cost:
        """Cost of all answers that this object gave, including those measured earlier.

        The candidates of a block share its cost equally.
        """
        total = Cost()
        for key in self._asked:
            total.add(self._known[key][1])
        return total

    def forwards(self, cost: Cost, tokens: int | None = None) -> float:
        """See :meth:`flrc.allocator.partial_run.PartialRun.forwards`."""
        return self._run.forwards(cost, tokens)

    def announce(
        self, what: str, candidates: Mapping[str, Sequence[int]] | None = None, plans: int = 0
    ) -> None:
        """Log, before measuring, the cost of these single truncations and this many plans."""
        with self._held():
            wanted = self._unknown(candidates or {})
        cuts = sum(len(ranks) for ranks in wanted.values())
        known = sum(len(set(ranks)) for ranks in (candidates or {}).values()) - cuts
        depth, tokens = len(self._run.blocks), self._run.tokens
        blocks = sum((depth - self.targets[n].block) * len(r) for n, r in wanted.items())
        cost = Cost(cuts + plans, (blocks + plans * depth) * tokens, (cuts + plans) * tokens)
        passes = self.forwards(cost)
        log.info(
            "%s: %d single-layer truncations (%d more are cached) and %d whole plans, each on "
            "%d sequences (%d tokens): about %.0f forward passes",
            *(what, cuts, known, plans, len(self._run.sequences), tokens, passes),
        )
        if cost.probes:
            begin = time.perf_counter()
            perplexity = self.dense.perplexity
            minutes = passes * (time.perf_counter() - begin) / 60
            log.info("%s: the dense model has perplexity %.4g on them", what, perplexity)
            if minutes > 0.1:
                log.info("%s: about %.1f minutes at the speed of that pass", what, minutes)

    def _unknown(self, candidates: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """The ranks that must be measured: each once, ascending."""
        missing = {
            name: sorted(rank for rank in {*ranks} if _key(name, rank) not in self._known)
            for name, ranks in candidates.items()
        }
        return {name: ranks for name, ranks in missing.items() if ranks}

    def _answer(self, key: str) -> Divergence:
        self._asked.add(key)
        return self._known[key][0]

    @torch.no_grad()
    def _measure(self, wanted: dict[str, list[int]]) -> Iterator[None]:
        """Measure and store the candidates of all blocks; yields once a candidate and batch."""
        run = self._run
        batches = run.dense[1]
        hidden = [run.embed(batch) for batch in batches]
        for index in range(max(self.targets[name].block for name in wanted) + 1):
            if index > 0:
                pairs = zip(batches, hidden, strict=True)
                hidden = [run.block(index - 1, batch, below) for batch, below in pairs]
            here = {n: ranks for n, ranks in wanted.items() if self.targets[n].block == index}
            if not here:
                continue
            full = {name: self.factors(name, ranks[-1]) for name, ranks in here.items()}
            means = {(n, rank): MeanDivergence() for n, ranks in here.items() for rank in ranks}
            for batch, below in zip(batches, hidden, strict=True):
                yield from self._candidates(index, batch, below, full, means)
            self._save({_key(*cut): mean.result() for cut, mean in means.items()})

    @torch.no_grad()
    def _candidates(
        self,
        index: int,
        batch: Batch,
        below: Tensor,
        full: dict[str, Factors],
        means: dict[tuple[str, int], MeanDivergence],
    ) -> Iterator[None]:
        """The candidates of a block on a batch: that block one by one, later blocks together."""
        run = self._run
        dense = run.dense_log_probabilities(batch)
        together = max(1, run.limit // batch.ids.numel())
        keys = list(means)
        for begin in range(0, len(keys), together):
            chosen = keys[begin : begin + together]
            changed = []
            for name, rank in chosen:
                left_t, right = full[name]
                with truncated(self.model, [(self.targets[name], (left_t[:rank], right[:rank]))]):
                    changed.append(run.block(index, batch, below))
            above = torch.cat(changed)
            for later in range(index + 1, len(run.blocks)):
                above = run.block(later, batch, above)
            for key, final in zip(chosen, above.chunk(len(chosen)), strict=True):
                means[key].add(dense, run.log_probabilities(batch, final), batch.ids[:, 1:])
                yield

    @torch.no_grad()
    def _whole(self, cuts: dict[str, int]) -> Divergence:
        """Every block with its truncations; only one block's factors are held at a time."""
        run = self._run
        batches = run.dense[1]
        hidden = [run.embed(batch) for batch in batches]
        for index in range(len(run.blocks)):
            here = [
                (self.targets[name], self.factors(name, rank))
                for name, rank in cuts.items()
                if self.targets[name].block == index
            ]
            with truncated(self.model, here):
                pairs = zip(batches, hidden, strict=True)
                hidden = [run.block(index, batch, below) for batch, below in pairs]
        mean = MeanDivergence()
        for batch, final in zip(batches, hidden, strict=True):
            dense = run.dense_log_probabilities(batch)
            mean.add(dense, run.log_probabilities(batch, final), batch.ids[:, 1:])
        return mean.result()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the entry's lock, and read what is in it."""
        with nullcontext() if self.entry is None else self.entry.lock():
            self._since = time.perf_counter()
            if self.entry is not None and self.entry.has(self._file):
                for key, (nll, kl, *cost) in self.entry.read_json(self._file).items():
                    self._known[key] = (Divergence(nll, kl), Cost(*cost))
            yield

    def _save(self, answers: dict[str, Divergence]) -> None:
        """Add answers with the cost since the last ones, and write everything that is known."""
        now = time.perf_counter()
        ran, self._run.cost = self._run.cost, Cost()
        ran.probes, ran.seconds = len(answers), now - self._since
        self._since = now
        self.cost.add(ran)
        share = Cost(*(value / len(answers) for value in vars(ran).values()))
        self._known |= {key: (answer, share) for key, answer in answers.items()}
        if self.entry is not None:
            values = {
                key: [answer.nll, answer.kl, *vars(cost).values()]
                for key, (answer, cost) in self._known.items()
            }
            self.entry.write_json(self._file, values)
            self.entry.finish()  # a partial entry is valid, and this marks it as used


def _key(name: str, rank: int) -> str:
    return f"single/{name}/{rank}"
