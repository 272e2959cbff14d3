"""Trials of a search: generates replies under a schedule, and scores them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.evaluation.reply_generation import generate_replies
from flrc.form.surgery import compressed, stored_parameters
from flrc.form.two_factor import TwoFactor
from flrc.plans.phase import Phase
from flrc.plans.rank_plan import RankPlan
from flrc.plans.run_plans import Plans
from flrc.runtime.decoding import Decoder
from flrc.search.base import Compression, SearchResult
from flrc.search.generating_search import GeneratingSearch
from flrc.search.tournament import Trial


class Trials:
    """Trials of one search; replies are cached, so an interrupted search continues where it was."""

    def __init__(self, search: GeneratingSearch, compression: Compression) -> None:
        self.search = search
        self.compression = compression
        data, seed = compression.data, compression.dense.seed
        self.pairs = search.drawn(data, seed)
        read = search.token_sequences(data, compression.tokenizer, seed)
        self.prompts = [list(ids) for ids in read.ids]
        self.made: dict[str, dict[str, Any]] = {}
        self.seconds_now = 0.0  # of generating in this process

    def result(self, phases: list[Phase], candidates: list[dict[str, Any]]) -> SearchResult:
        """What was chosen, and the cost, with that of replies from the cache included."""
        made = self.made.values()
        replies = sum(len(known["replies"]) for known in made)
        cost = {"trials": len(made), "replies": replies, "candidates": candidates}
        seconds = {"all": sum(known["seconds"] for known in made), "now": self.seconds_now}
        return SearchResult(phases, candidates, cost, seconds)

    def __call__(self, phases: list[Phase], numbers: range) -> Trial | str:
        """Generate for these items; or the reason, if the rate or the storage limit is not met."""
        planner, tokenizer = self.compression.planner, self.compression.tokenizer
        try:
            plans = planner.phases(phases)
        except UserError as error:
            return f"not reachable: {error.given}"
        used = [plan for _, plan in plans]
        dense = sum(target.dense for target in planner.targets)
        stored = stored_parameters(planner.targets, used, planner.form) / dense
        if self.search.stored is not None and stored > self.search.stored:
            return f"stores {stored:.3f} of the dense parameters"
        decoder = Decoder(self.compression.dense.model, tokenizer, Plans(used[0], plans))
        replies = self._replies(decoder, used, numbers)
        texts = [tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]
        lengths = [len(reply) for reply in replies]
        rate = decoder.rate_per_step(lengths, self.search.max_new_tokens)
        return Trial(self._scores(texts, numbers), lengths, rate, stored)

    def _scores(self, texts: list[str], numbers: range) -> list[float]:
        from flrc.evaluation.text_metrics import BertScoreF1, RougeL

        references = [self.pairs[number].reference for number in numbers]
        both = {"predictions": texts, "references": references}
        if self.search.metric == "rougeL":
            tokenizer = self.search.rouge_tokenizer
            values = RougeL().compute(**both, tokenizer=tokenizer)["rougeL"]
        else:
            model = self.search.bertscore_model
            values = BertScoreF1().compute(**both, model=model)["bertscore_f1"]
        return [100 * value for value in values]

    def _replies(
        self, decoder: Decoder, plans: Sequence[RankPlan], numbers: range
    ) -> list[list[int]]:
        limit, entry = self.search.max_new_tokens, self.compression.entry
        prompts = [self.prompts[number] for number in numbers]
        question = {
            "ranks": [plan.ranks for plan in plans],
            "steps": [phase["step"] for phase in decoder.describe(limit)],
            "prompts": prompts,
            "max_new_tokens": limit,
        }
        name = f"{jsonfile.digest(question, 16)}.json"
        if not entry.has(name):
            begin = time.perf_counter()
            planner, factors = self.compression.planner, self.compression.factors
            # Other forms give the same product and take longer to build.
            with compressed(decoder.model, planner.targets, plans, TwoFactor(), factors):
                replies = generate_replies(
                    decoder, prompts, batch_size=self.search.batch_size, max_new_tokens=limit
                )
            seconds = time.perf_counter() - begin
            self.seconds_now += seconds
            entry.write_json(name, {"replies": replies, "seconds": seconds})
        self.made[name] = entry.read_json(name)
        return list(self.made[name]["replies"])
