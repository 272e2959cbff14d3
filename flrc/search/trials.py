"""Generates under a schedule with the compressed model, and scores the replies."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flrc.core import jsonfile
from flrc.errors import UserError
from flrc.evaluation.reply_generation import generate_replies
from flrc.form.surgery import compressed, stored_parameters
from flrc.form.two_factor import TwoFactor
from flrc.plans.run_plans import Plans
from flrc.runtime.decoding import Decoder
from flrc.search.tournament import Trial

if TYPE_CHECKING:
    from flrc.plans.phase import Phase
    from flrc.plans.rank_plan import RankPlan
    from flrc.search.base import Compression
    from flrc.search.generating_search import GeneratingSearch


class Trials:
    """Trials of one search; replies are kept, so an interrupted search repeats none.

    Args:
        search: What is generated for, and how it is scored.
        compression: What generates.
    """

    def __init__(self, search: GeneratingSearch, compression: Compression) -> None:
        self.search = search
        self.compression = compression
        data, seed = compression.data, compression.dense.seed
        self.pairs = search.drawn(data, seed)
        read = search.token_sequences(data, compression.tokenizer, seed)
        self.prompts = [list(ids) for ids in read.ids]
        self.made: dict[str, dict[str, Any]] = {}
        self.seconds_now = 0.0
        """Of generating in this process."""

    def cost(self) -> dict[str, Any]:
        """What the cache answered is counted, too."""
        return {
            "trials": len(self.made),
            "replies": sum(len(known["replies"]) for known in self.made.values()),
        }

    def seconds(self) -> dict[str, float]:
        """Of generating: in all, and in this process."""
        return {
            "all": sum(known["seconds"] for known in self.made.values()),
            "now": self.seconds_now,
        }

    def __call__(self, phases: list[Phase], numbers: range) -> Trial | str:
        """Generate for these items; why not, where the ranks do not reach or storage exceeds."""
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

        both = {
            "predictions": texts,
            "references": [self.pairs[number].reference for number in numbers],
        }
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
        what = {
            "ranks": [plan.ranks for plan in plans],
            "steps": [phase["step"] for phase in decoder.describe(limit)],
            "prompts": prompts,
            "max_new_tokens": limit,
        }
        name = f"{jsonfile.digest(what, 16)}.json"
        if not entry.has(name):
            begun = time.perf_counter()
            planner, factors = self.compression.planner, self.compression.factors
            # Other forms are the same product, and take longer to build.
            with compressed(decoder.model, planner.targets, plans, TwoFactor(), factors):
                found = generate_replies(
                    decoder, prompts, batch_size=self.search.batch_size, max_new_tokens=limit
                )
            seconds = time.perf_counter() - begun
            self.seconds_now += seconds
            entry.write_json(name, {"replies": found, "seconds": seconds})
        self.made[name] = entry.read_json(name)
        replies: list[list[int]] = self.made[name]["replies"]
        return replies
