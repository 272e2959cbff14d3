"""The dense model's replies, which every compressed model's replies are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flrc.running import environment
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from flrc.config import RunConfig
    from flrc.running.preflight import Prepared
    from flrc.running.stages import Stages


def replies_of_dense_model(
    config: RunConfig, prepared: Prepared, model: PreTrainedModel, stages: Stages
) -> dict[str, list[list[int]]]:
    """Token ids of the replies by part of each generating evaluation: cached, or generated now.

    Args:
        config: The run; its evaluations say what is generated.
        prepared: Tokenizer, digests of the prompts, and the cache, where replies are kept for all
            methods and rates.
        model: The dense model, before surgery.
        stages: Where the time is noted.
    """
    decoder = Decoder(model, prepared.tokenizer, None)
    replies: dict[str, list[list[int]]] = {}
    for evaluation in (e for e in config.evaluation.values() if e.GENERATES):
        for part in evaluation.parts():
            inputs = {
                "model": environment.model_inputs(config),
                "settings": evaluation.reply_settings(part, config.data),
                "tokens": prepared.tokens[f"{evaluation.name} {part}"],
                "end": decoder.end_tokens(),
            }
            entry = prepared.cache.entry("dense_replies", inputs)
            with stages("dense replies") as stage, entry.lock():
                stage.cached = entry.done
                if not stage.cached:
                    found = evaluation.replies(config.data, prepared.tokenizer, decoder, part)
                    entry.write_json("replies.json", found)
                    entry.finish()
                replies[part] = entry.read_json("replies.json")
    return replies
