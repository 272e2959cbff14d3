"""A model with random weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.errors import choose
from flrc.models.sources.base import ModelSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Random(ModelSource):
    """A model with random weights, built from a named shape: for tests, and for measuring speed.

    Attributes:
        shape: A name of :data:`flrc.models.sources.shapes.SHAPES`.
        seed: Of the weights.
    """

    name: str = "random"
    shape: str = "tiny_llama_gqa"
    seed: int = 0

    def check(self) -> None:
        """The shape exists, the seed is one of torch's; the label is the shape unless set."""
        from flrc.models.sources.shapes import SHAPES

        choose("model.shape", self.shape, SHAPES)
        self.require(0 <= self.seed < 2**63, "seed", "0 to 2^63 - 1")
        if not self.label:
            self.label = self.shape

    def check_available(self) -> None:
        """Always there."""

    def fingerprint(self) -> str:
        """Digest of shape and seed."""
        from flrc.models.sources.shapes import SHAPES

        content = json.dumps([SHAPES[self.shape], self.seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A byte-level tokenizer without merges: one token a byte."""
        from flrc.models.sources.byte_tokenizer import byte_tokenizer

        return byte_tokenizer()

    def config(self) -> PretrainedConfig:
        """The shape as a config."""
        from transformers import AutoConfig

        from flrc.models.sources.shapes import SHAPES

        config: PretrainedConfig = AutoConfig.for_model(**SHAPES[self.shape])
        return config

    def load(self, dtype: str) -> PreTrainedModel:
        """Weights drawn from the seed; the global random state is left as it was."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(
                self.config(), dtype=getattr(torch, dtype)
            )
        return model
