"""The context of a run: what every stage needs, from the checks to the evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flrc.running.identity import Entries, run_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.calibration.dense_model import DenseModel
    from flrc.config import RunConfig
    from flrc.core.cache import StageCache
    from flrc.plans.target import Target
    from flrc.results.records.store import RunFolder
    from flrc.running.profiling import Stages


@dataclass
class Context:
    """One run: its configuration, and everything that its stages share.

    Attributes:
        config: The whole configuration.
        stages: Time and memory of the stages so far.
        device: Where the model goes.
        cache: Results that runs share.
        tokenizer: The tokenizer of the model.
        sequences: Calibration sequences; empty if nothing is calibrated.
        tokens: Digests of the token ids that are read, by what they are read for: ``calibration``,
            ``search``, or an evaluation and its part.
        held_out: Calibration sequences that only judge the healing; empty if nothing is healed.
        searches: Whether the schedule is searched now; its search may be deferred.
        template_date: What the chat template prints as the date; None if it prints none.
        shell_targets: The targets, if they were found before any weight was read; else None, also
            if nothing is compressed.
        dense: The model, its targets and the calibration sequences; set when it is loaded.
    """

    config: RunConfig
    stages: Stages
    device: torch.device
    cache: StageCache
    tokenizer: PreTrainedTokenizerBase
    sequences: list[torch.Tensor]
    tokens: dict[str, str]
    held_out: list[torch.Tensor] = field(default_factory=list)
    searches: bool = False
    template_date: str | None = None
    shell_targets: list[Target] | None = None
    dense: DenseModel = field(init=False)

    @property
    def loaded(self) -> bool:
        """Whether the model was loaded and passed every check."""
        return hasattr(self, "dense")

    @property
    def model(self) -> PreTrainedModel:
        """The model: dense until surgery, compressed from then on."""
        return self.dense.model

    @cached_property
    def folder(self) -> RunFolder:
        """Where the run is kept."""
        return run_folder(self.config)

    @cached_property
    def entries(self) -> Entries:
        """Where the results of stages are cached."""
        return Entries(self.config, self.tokens, self.cache)

    def inputs_read(self) -> dict[str, Any]:
        """For the record: which tokens were read, and the date that a template printed in them."""
        dated = {} if self.template_date is None else {"template_date": self.template_date}
        return {"tokens": self.tokens, **dated}
