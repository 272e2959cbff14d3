"""From a saved compressed model to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flrc.core.devices import resolve_device
from flrc.data.chat_template import has_template, render
from flrc.data.token_sequences import TokenSequences
from flrc.errors import UserError
from flrc.evaluation.replies import generate_replies
from flrc.models.anatomy.input_limits import Limits
from flrc.models.checkpoints.checkpoint import Loaded
from flrc.models.checkpoints.checkpoint import load as load_folder
from flrc.models.checkpoints.manifest import FILE, reason
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

    from flrc.plans.rank_plan import RankPlan


def load(path: str | Path, device: str = "auto") -> Loaded:
    """A compressed model that a run with ``model.save=true``, or :func:`flrc.save`, has written.

    Args:
        path: The run's folder, or the ``model`` folder in it.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        UserError: If there is no such model, or its files are damaged.
    """
    folder = Path(path).expanduser()
    if not (folder / FILE).is_file() and (folder / "model" / FILE).is_file():
        folder = folder / "model"
    return load_folder(folder, resolve_device(device))


def decoder_of(model: Loaded) -> Decoder:
    """Generates under the model's schedule."""
    return Decoder(model.model, model.tokenizer, model.plans)


def prompt_ids(model: Loaded, turns: str | Sequence[dict[str, str]]) -> list[int]:
    """Token ids in the chat template; of plain text where the tokenizer has none.

    Args:
        model: The model.
        turns: What the user says, or a conversation as ``{"role": ..., "content": ...}``.

    Raises:
        UserError: If the turns are no texts, or the chat template cannot be used for them.
    """
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    tokenizer = model.tokenizer
    try:
        if has_template(tokenizer):
            text = render(tokenizer, turns, moment=None, add_generation_prompt=True)
        else:
            text = "\n\n".join(turn["content"] for turn in turns)
        ids: list[int] = tokenizer(text, add_special_tokens=not has_template(tokenizer))[
            "input_ids"
        ]
    except UserError:
        raise
    except Exception as error:  # turns are the caller's, and may hold anything
        raise UserError(
            "this conversation cannot be made a prompt",
            given=reason(error),
            allowed="texts, in turns that the chat template knows",
        ) from error
    return ids


def generate(
    model: Loaded,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    seed: int = 0,
    **options: Any,
) -> str | list[str]:
    """Replies under the model's schedule, greedy unless the options say otherwise.

    Args:
        model: From :func:`flrc.load`.
        prompts: What the user says: one text, or several.
        max_new_tokens: Longest reply.
        batch_size: Prompts generated together.
        seed: Of what is drawn, with ``do_sample=True``.
        options: ``do_sample``, ``temperature``, ``top_k``, ``top_p``, ``repetition_penalty``,
            ``min_new_tokens``, ``cache_implementation``.

    Returns:
        A text for a text, a list for several.

    Raises:
        UserError: If a prompt with its reply is longer than the model's context, or holds tokens
            that the model does not have.
    """
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    ids = [prompt_ids(model, prompt) for prompt in several]
    _check_fit(model, ids, max_new_tokens)
    torch.manual_seed(seed)
    replies = generate_replies(
        decoder_of(model),
        ids,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        **options,
    )
    texts = [model.tokenizer.decode(r, skip_special_tokens=True).strip() for r in replies]
    return texts[0] if isinstance(prompts, str) else texts


def stream(
    model: Loaded,
    turns: Sequence[dict[str, str]],
    streamer: BaseStreamer,
    on_switch: Callable[[int, RankPlan], None],
    *,
    max_new_tokens: int,
    **options: Any,
) -> list[int]:
    """One reply, handed on token by token; its token ids.

    Args:
        model: From :func:`flrc.load`.
        turns: The conversation so far.
        streamer: As in ``transformers``.
        on_switch: Is told the step (0 for the prefill) and the plan that begins there.
        max_new_tokens: Longest reply.
        options: As in :func:`generate`.
    """
    prompt = prompt_ids(model, turns)
    _check_fit(model, [prompt], max_new_tokens)
    ids = torch.tensor([prompt], device=model.model.device)
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


def _check_fit(model: Loaded, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """The model has a position for every token, and these tokens."""
    read = TokenSequences("a prompt with its reply", prompts, "max_new_tokens", max_new_tokens)
    read.check(Limits.of(model.model.config), type(model.model).__name__)
