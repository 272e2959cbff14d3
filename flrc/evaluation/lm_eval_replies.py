"""The model as lm-eval asks it: its replies are generated under the run's schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from flrc.core.progress import progress
from flrc.evaluation.reply_generation import up_to_end
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class ScheduledModel(HFLM):  # type: ignore[misc]
    """lm-eval's model, which generates with our decoder: greedily, each step at its ranks.

    lm-eval makes the prompts, and cuts the replies at the texts that end them. Progress is shown as
    everywhere in flrc.

    Attributes:
        reply_tokens: Forward steps of each reply so far: its tokens up to and including those that
            end it.
        prompt_tokens: Tokens of their prompts.
    """

    def __init__(self, decoder: Decoder, **options: Any) -> None:
        super().__init__(**options)
        self.decoder = decoder
        self.reply_tokens: list[int] = []
        self.prompt_tokens: list[int] = []
        self._bar: Iterator[int] = iter(())

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log likelihood of each continuation, and whether it is the most likely one."""
        with self._shown("scoring answers", len(requests)):
            scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scores

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log likelihood of each text."""
        with self._shown("scoring texts", len(requests)):
            scores: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=True)
        return scores

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The reply to each prompt."""
        with self._shown("generating replies", len(requests)):
            replies: list[str] = super().generate_until(requests, disable_tqdm=True)
        return replies

    @contextmanager
    def _shown(self, doing: str, total: int) -> Iterator[None]:
        bar = progress(range(total), doing, total)
        self._bar = bar
        try:
            yield
        finally:
            bar.close()  # type: ignore[attr-defined]

    def _advance(self, count: int) -> None:
        for _ in range(count):
            next(self._bar, None)

    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return scores

    def _model_call(self, inps: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        self._advance(len(inps))
        logits: torch.Tensor = super()._model_call(inps, *arguments, **options)
        return logits

    def _model_generate(
        self,
        context: torch.Tensor,
        max_length: int,
        stop: Sequence[str],
        attention_mask: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        self._advance(len(context))
        prompt = context.shape[1]
        texts = [text for text in stop if text]
        new = self.decoder.generate(
            input_ids=context,
            attention_mask=attention_mask,
            max_new_tokens=max_length - prompt,
            stopping=StoppingCriteriaList([EndsAtText(self.tokenizer, texts, prompt)]),
        )
        ends = set(self.decoder.end_tokens())
        for row in new.tolist():
            self.reply_tokens.append(reply_length(up_to_end(row, ends), self.tokenizer, texts))
        self.prompt_tokens += attention_mask.sum(1).tolist()
        return torch.cat([context, new], 1)


class EndsAtText(StoppingCriteria):  # type: ignore[misc]
    """Ends each reply of a batch as soon as it contains one of the texts.

    Args:
        tokenizer: Decodes the replies.
        texts: The texts.
        prompt: Length of the prompts, padding included.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], prompt: int
    ) -> None:
        self.tokenizer, self.texts, self.prompt = tokenizer, texts, prompt
        # A text may be spelt with other tokens than its own: one token a byte at most.
        self.reach = max((len(text.encode()) for text in texts), default=0) + 1

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Whether each reply ends here: ``(batch,)``."""
        last = input_ids[:, max(self.prompt, input_ids.shape[1] - self.reach) :]
        ended = [
            any(text in tail for text in self.texts) for tail in self.tokenizer.batch_decode(last)
        ]
        return torch.tensor(ended, device=input_ids.device)


def reply_length(
    tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> int:
    """Number of tokens up to and including the one that completes the first of the texts."""

    def ended(length: int) -> bool:
        reply = tokenizer.decode(tokens[:length])
        return any(text in reply for text in texts)

    if not ended(len(tokens)):
        return len(tokens)
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if ended(middle) else (middle + 1, high)
    return low
