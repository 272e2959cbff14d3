"""A model with random weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flrc.errors import choose
from flrc.models.sources.base import ModelSource
from flrc.models.sources.byte_tokenizer import byte_tokenizer
from flrc.models.sources.shapes import SHAPES

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Random(ModelSource):
    """A model with random weights and a named shape, for tests and speed measurements.

    Attributes:
        shape: A name in :data:`flrc.models.sources.shapes.SHAPES`.
        seed: Seed of the random weights.
    """

    name: str = "random"
    shape: str = "tiny_llama_gqa"
    seed: int = 0

    def check(self) -> None:
        """The shape exists, torch accepts the seed; the label defaults to the shape."""
        choose("model.shape", self.shape, SHAPES)
        self.require(0 <= self.seed < 2**63, "seed", "0 to 2^63 - 1")
        if not self.label:
            self.label = self.shape

    def check_available(self) -> None:
        """A random model is always available."""

    def fingerprint(self) -> str:
        """Digest of shape and seed."""
        content = json.dumps([SHAPES[self.shape], self.seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A byte-level tokenizer without merges: one token per byte."""
        return byte_tokenizer()

    def config(self) -> PretrainedConfig:
        """The config of the shape."""
        from transformers import AutoConfig

        return AutoConfig.for_model(**SHAPES[self.shape])  # type: ignore[no-any-return]

    def load(self, dtype: str) -> PreTrainedModel:
        """Weights drawn from the seed; the global random state is unchanged."""
        import torch
        from transformers import AutoModelForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            config = self.config()
            return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))  # type: ignore[no-any-return]
