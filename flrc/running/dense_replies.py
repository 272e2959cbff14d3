"""The dense model's replies, which every compressed model's replies are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from flrc.running.context import Context


def dense_replies(context: Context) -> dict[str, list[list[int]]]:
    """Token ids of the replies by part of each generating evaluation: cached, or generated now.

    All methods and rates share them. The model is still dense here.
    """
    config, tokenizer = context.config, context.tokenizer
    decoder = Decoder(context.model, tokenizer, None)
    replies: dict[str, list[list[int]]] = {}
    for evaluation in (e for e in config.evaluation.values() if e.GENERATES):
        for part in evaluation.parts():
            entry = context.entries.dense_replies(evaluation, part, decoder.end_tokens())
            with context.stages("dense replies") as stage, entry.lock():
                stage.cached = entry.done
                if not stage.cached:
                    generated = evaluation.replies(config.data, tokenizer, decoder, part)
                    entry.write_json("replies.json", generated)
                    entry.finish()
                replies[part] = entry.read_json("replies.json")
    return replies
