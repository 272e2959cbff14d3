"""Perplexity on running text."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.data.text import token_stream, windows
from flrc.data.token_sequences import TokenSequences
from flrc.evaluation.base import DatasetEvaluation, Subject
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from flrc.data.base import DataSource


@dataclass
class Perplexity(DatasetEvaluation):
    """``exp`` of the mean negative log likelihood over non-overlapping windows of the test text.

    Rows are joined with two newlines and tokenised as one stream (special tokens only at its
    start). The remainder after the last whole window is dropped. In each window the last ``length -
    1`` tokens are predicted.

    Source: the protocol of SVD-LLM, ASVD and FLRC (length 2048).
    Differs: windows with a loss that is not finite are not dropped; the perplexity is then not
        finite either.

    Attributes:
        datasets: Text data sets, each on its evaluation split.
        windows: Number of windows, from the start of the text; None for all, which is what papers
            report.
        length: Tokens per window.
    """

    name: str = "perplexity"
    datasets: list[str] = field(default_factory=lambda: ["wikitext2", "c4"])
    windows: int | None = 2
    length: int = 2048

    KIND: ClassVar[str] = "text"

    def check(self) -> None:
        """Check the ranges of windows and length, and the data sets."""
        super().check()
        self.require(
            self.windows is None or self.windows >= 1, "windows", "1 or more, or null for all"
        )
        self.require(self.length >= 2, "length", "2 or more")

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Fingerprint of the data, windows and length."""
        own = {"windows": self.windows, "length": self.length}
        return self.data_settings(part, data) | own

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """The requested number of windows."""
        ids = list(self._windows(data, tokenizer, part))
        return TokenSequences(
            f"a window of {data.label(part)}", ids, "evaluation.perplexity.length"
        )

    def _windows(self, data: DataSource, tokenizer: PreTrainedTokenizerBase, part: str) -> Tensor:
        # (windows, length)
        stream = token_stream(data.rows(part, self.split(part)), tokenizer)
        available = windows(stream, self.length)
        problem = (
            f"the text of {data.label(part)} has {len(available)} windows of {self.length} tokens"
        )
        self.require_enough("windows", len(available), problem)
        return available[: self.windows]

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Perplexity on one data set; its standard error is by the delta method, over windows."""
        from flrc.evaluation.likelihood import window_losses

        chosen = self._windows(subject.data, subject.tokenizer, part)
        losses = window_losses(subject.model, chosen)
        mean = sum(losses) / len(losses)
        value = mean if math.isnan(mean) else math.exp(mean) if mean < 700 else math.inf
        known = len(losses) > 1 and math.isfinite(value)
        spread = statistics.stdev(losses) / len(losses) ** 0.5 if known else None
        label = subject.data.label(part)
        measurement = Measurement(
            name=f"{label}/perplexity",
            value=value,
            unit="perplexity",
            higher_is_better=False,
            stderr=None if spread is None else value * spread,
            count=len(losses),
            settings=self.settings(part, subject.data),
            rate=subject.rate,
        )
        items = [{"id": f"window {i}", "loss": loss} for i, loss in enumerate(losses)]
        return Outcome([measurement], items)
