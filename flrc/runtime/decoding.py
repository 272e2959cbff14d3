"""Generation under a schedule, and the rates that were used."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from flrc.errors import UserError
from flrc.models.anatomy.input_limits import Limits
from flrc.models.layers.switching import Switch, activate

if TYPE_CHECKING:
    from transformers import (
        PreTrainedModel,
        PreTrainedTokenizerBase,
        StoppingCriteriaList,
    )
    from transformers.generation.streamers import BaseStreamer

    from flrc.plans.rank_plan import RankPlan
    from flrc.plans.run_plans import Plans


OPTIONS = (
    "cache_implementation",
    "do_sample",
    "min_new_tokens",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
)
"""Options of ``transformers`` that work with changing ranks: one forward call per token."""


class Decoder:
    """Generates with ``transformers`` while the schedule sets the active ranks per forward step.

    Forward step 1 is the prefill, which generates the first token; each further step generates one
    token. A switch changes only the ranks: cached keys and values are kept.

    Source: FLRC (arXiv 2510.09332), section 3.2, eq. 3.

    Args:
        model: The compressed (or dense) model.
        tokenizer: Its tokenizer.
        plans: The run's plans; None for the dense model.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, plans: Plans | None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.plans = plans

    def end_tokens(self) -> list[int]:
        """Token ids that end a reply."""
        end = self.model.generation_config.eos_token_id  # type: ignore[union-attr]
        if end is None:
            end = self.tokenizer.eos_token_id
        return [end] if isinstance(end, int) else list(end or [])

    def padding_token(self) -> int | None:
        """The tokenizer's padding token; None if it is not in the model's vocabulary.

        Finished replies of a batch are padded and fed to the model, so a token that was added only
        to the tokenizer would be outside the embedding.
        """
        token, known = self.tokenizer.pad_token_id, Limits.of(self.model.config).vocabulary
        return token if isinstance(token, int) and (known is None or token < known) else None

    @torch.no_grad()
    def generate(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        max_new_tokens: int,
        num_beams: int = 1,
        streamer: BaseStreamer | None = None,
        stopping: StoppingCriteriaList | None = None,
        on_switch: Callable[[int, RankPlan], None] | None = None,
        **options: Any,
    ) -> torch.Tensor:
        """Replies, without the prompt: greedy unless the options say otherwise.

        Default sampling settings of the model are ignored.

        Args:
            input_ids: ``(batch, prompt)``, left-padded.
            attention_mask: ``(batch, prompt)``, 0 at padding.
            max_new_tokens: Maximum length of a reply, in tokens; also the number of forward steps
                over which the schedule's phases are spread.
            num_beams: Number of beams; only 1 with more than one phase.
            streamer: Receives tokens as they are generated, as in ``transformers``.
            stopping: What ends a reply besides its end-of-sequence token, as in ``transformers``.
            on_switch: Called with the step (0 for the prefill) and the plan that starts there.
            options: Any of :data:`OPTIONS`.

        Returns:
            ``(batch, new)`` token ids, right-padded after the end-of-sequence token.

        Raises:
            UserError: If an option is not supported.
            ValueError: If beam search is requested under a schedule.
        """
        from transformers import GenerationConfig

        for name in options:
            if name not in OPTIONS:
                raise UserError(
                    "generation under a schedule does not support this option",
                    given=name,
                    allowed=OPTIONS,
                    fix="use model.generate of transformers, which runs at constant ranks",
                )
        if num_beams > 1 and self._phases(max_new_tokens)[1:]:
            raise ValueError("beam search cannot follow a schedule")
        end = self.end_tokens()
        padding = self.padding_token()
        config = GenerationConfig(
            **{"do_sample": False, **options},
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            eos_token_id=end or None,
            pad_token_id=padding if padding is not None else (end[0] if end else 0),
            bos_token_id=self.tokenizer.bos_token_id,
            use_cache=True,
            disable_compile=True,  # each switch would recompile in the middle of a reply
        )
        shipped = self.model.generation_config
        if config.cache_implementation is None:  # the runtime may require one
            config.cache_implementation = shipped.cache_implementation  # type: ignore[union-attr]
        switch = Switch(self.model, self.plans_by_step(max_new_tokens), on_switch)
        handle = self.model.register_forward_pre_hook(switch)
        # transformers would fill unset fields from the model's defaults (repetition penalty ...).
        self.model.generation_config = GenerationConfig()
        try:
            # The generate method of a loaded checkpoint follows the schedule by itself.
            generate = getattr(self.model, "generate_at_one_rank", self.model.generate)
            output = generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=config,
                streamer=streamer,
                stopping_criteria=stopping,
            )
        finally:
            self.model.generation_config = shipped
            handle.remove()
            if self.plans is not None:
                activate(self.model, self.plans.constant)
        assert isinstance(output, torch.Tensor)
        return output[:, input_ids.shape[1] :]

    def plans_by_step(self, steps: int) -> dict[int, RankPlan]:
        """See :meth:`flrc.plans.run_plans.Plans.by_step`; empty for the dense model."""
        return {} if self.plans is None else self.plans.by_step(steps)

    def _phases(self, steps: int) -> list[tuple[int, float]]:
        """First forward step, counted from 0, and realised rate of each phase that is reached."""
        plans = self.plans_by_step(steps)
        return [(start, plan.realised) for start, plan in plans.items()] or [(0, 0.0)]

    def _rates(self, steps: int) -> list[float]:
        phases = self._phases(steps)
        starts = [start for start, _ in phases]
        return [phases[bisect_right(starts, step) - 1][1] for step in range(steps)]

    def rate_per_step(self, lengths: Sequence[int], max_new_tokens: int) -> float:
        """Average rate over all forward steps of all replies.

        ``lengths`` are the tokens of each reply up to and including the end-of-sequence token,
        which is the number of its forward steps.
        """
        rates = self._rates(max_new_tokens)
        return sum(sum(rates[:length]) for length in lengths) / sum(lengths)

    def rate_per_token(
        self, lengths: Sequence[int], prompts: Sequence[int], max_new_tokens: int
    ) -> float:
        """The other interpretation of the paper: every prompt token counts, at the prefill's rate.

        ``prompts`` are the tokens of each prompt; the rest is as in :meth:`rate_per_step`.
        """
        rates = self._rates(max_new_tokens)
        spent = sum(
            prompt * rates[0] + sum(rates[1:length])
            for prompt, length in zip(prompts, lengths, strict=True)
        )
        return spent / (sum(prompts) + sum(lengths) - len(lengths))

    def describe(self, max_new_tokens: int) -> list[dict[str, Any]]:
        """The phases as ``{"step": first forward step, counted from 1, "rate": realised rate}``."""
        return [{"step": start + 1, "rate": rate} for start, rate in self._phases(max_new_tokens)]
