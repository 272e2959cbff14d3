"""Loads a saved compressed model and generates text with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flrc.core.devices import resolve_device
from flrc.data.chat_template import has_template, render
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.evaluation.reply_generation import generate_replies
from flrc.library.checkpoint_folder import checkpoint_folder
from flrc.library.compressed_model import as_model, loaded_of
from flrc.models.anatomy.input_limits import Limits
from flrc.models.checkpoints.checkpoint import load as load_folder
from flrc.models.checkpoints.manifest import refusing
from flrc.models.checkpoints.weights import WEIGHTS, weights_digest
from flrc.results.pages.model_card import record_of
from flrc.results.records.lookup import RUNS
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

    from flrc.library.compressed_model import CompressedModel
    from flrc.models.checkpoints.checkpoint import Loaded
    from flrc.plans.rank_plan import RankPlan


def load(path: str | Path, device: str = "auto", *, runs: str | Path = RUNS) -> CompressedModel:
    """Load a compressed model that :func:`flrc.save` or a run with ``model.save=true`` wrote.

    It is a model of ``transformers``: an instance of the base's class whose ``generate`` follows
    the schedule. A call runs one forward step under the constant plan.

    Args:
        path: The run's folder, the ``model`` folder in it, or the run's id or the start of it.
        device: ``auto``, ``cpu``, ``cuda`` ...
        runs: The folder of runs, where an id is looked up.

    Returns:
        The model; ``model.flrc`` holds its ``tokenizer``, ``plans`` and ``record`` (None if the
        checkpoint was saved without it).

    Raises:
        UserError: If there is no such model, or its files are damaged.
    """
    folder = checkpoint_folder(path, runs)
    loaded, record = load_folder(folder, resolve_device(device)), record_of(folder)
    if record is not None and WEIGHTS not in record.meta:  # saved by an earlier version
        record.meta[WEIGHTS] = weights_digest(loaded.model)
    return as_model(loaded, record)


def decoder_of(model: CompressedModel | Loaded) -> Decoder:
    """A decoder that follows the model's schedule."""
    loaded = loaded_of(model)
    return Decoder(loaded.model, loaded.tokenizer, loaded.plans)


def prompt_ids(model: CompressedModel | Loaded, turns: str | Sequence[dict[str, str]]) -> list[int]:
    """Token ids of a conversation in the chat template, or as plain text if there is none.

    Args:
        model: The model.
        turns: The user's message, or a conversation as ``{"role": ..., "content": ...}``.

    Raises:
        UserError: If the turns are not texts, or the chat template rejects them.
    """
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    tokenizer = loaded_of(model).tokenizer
    templated = has_template(tokenizer)
    problem = "the conversation cannot be turned into a prompt"
    accepted = "texts, in turns that the chat template accepts"
    with refusing(lambda why: UserError(problem, given=why, allowed=accepted)):
        if templated:
            text = render(tokenizer, turns, moment=None, add_generation_prompt=True)
        else:
            text = "\n\n".join(turn["content"] for turn in turns)
        ids: list[int] = tokenizer(text, add_special_tokens=not templated)["input_ids"]
    return ids


def generate(
    model: CompressedModel | Loaded,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    seed: int = 0,
    **options: Any,
) -> str | list[str]:
    """Generate replies under the model's schedule, greedily unless the options say otherwise.

    Args:
        model: From :func:`flrc.load` or :func:`flrc.compress`.
        prompts: The user's message, or several of them.
        max_new_tokens: Length of the longest reply.
        batch_size: Number of prompts that are processed together.
        seed: For sampling, with ``do_sample=True``.
        options: ``do_sample``, ``temperature``, ``top_k``, ``top_p``, ``repetition_penalty``,
            ``min_new_tokens``, ``cache_implementation``.

    Returns:
        A reply for a single prompt, a list for several.

    Raises:
        UserError: If a prompt with its reply exceeds the context length, or contains tokens that
            are not in the model's vocabulary.
    """
    messages = [prompts] if isinstance(prompts, str) else prompts
    ids = [prompt_ids(model, message) for message in messages]
    _check_fit(model, ids, max_new_tokens)
    torch.manual_seed(seed)
    options |= {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    replies = generate_replies(decoder_of(model), ids, **options)
    tokenizer = loaded_of(model).tokenizer
    texts = [tokenizer.decode(r, skip_special_tokens=True).strip() for r in replies]
    return texts[0] if isinstance(prompts, str) else texts


def stream(
    model: CompressedModel | Loaded,
    turns: Sequence[dict[str, str]],
    streamer: BaseStreamer,
    on_switch: Callable[[int, RankPlan], None],
    *,
    max_new_tokens: int,
    **options: Any,
) -> list[int]:
    """Generate one reply token by token, with arguments as in :func:`generate`.

    ``on_switch`` is called with the step (0 for the prefill) and the plan that begins there.

    Returns:
        The reply's token ids.
    """
    prompt = prompt_ids(model, turns)
    _check_fit(model, [prompt], max_new_tokens)
    ids = torch.tensor([prompt], device=loaded_of(model).model.device)
    output = decoder_of(model).generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        streamer=streamer,
        on_switch=on_switch,
        **options,
    )
    reply: list[int] = output[0].tolist()
    return reply


def _check_fit(
    model: CompressedModel | Loaded, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    """Check the context length and the vocabulary."""
    read = TokenSequences("a prompt with its reply", prompts, "max_new_tokens", max_new_tokens)
    whole = loaded_of(model).model
    read.check(Limits.of(whole.config), type(whole).__name__)
