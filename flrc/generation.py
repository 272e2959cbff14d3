"""From a saved compressed model to text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from flrc.errors import UserError
from flrc.evaluation.replies import generate_replies
from flrc.models.checkpoint import Loaded
from flrc.models.checkpoint import load as load_folder
from flrc.models.integrity import FILE, reason
from flrc.models.loading import resolve_device
from flrc.runtime.decoding import Decoder

if TYPE_CHECKING:
    from transformers.generation.streamers import BaseStreamer

    from flrc.allocator.plan import RankPlan


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
        UserError: If the chat template cannot be applied, or gives tokens that the model lacks.
    """
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    tokenizer = model.tokenizer
    plain = tokenizer.chat_template is None
    try:
        text = (
            "\n\n".join(turn["content"] for turn in turns)
            if plain
            else tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=True
            )
        )
        ids: list[int] = tokenizer(text, add_special_tokens=plain)["input_ids"]
    except Exception as error:  # a template is a program, which may go wrong in any way
        raise UserError(
            "the tokenizer's chat template cannot be applied to this conversation",
            given=reason(error),
            allowed="texts, in turns that the template knows",
        ) from error
    known = model.model.get_input_embeddings().num_embeddings
    if max(ids, default=0) >= known:
        raise UserError(
            "the tokenizer gives tokens that the model does not have",
            given=f"token {max(ids)}",
            allowed=f"0 to {known - 1}",
        )
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
    """
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    torch.manual_seed(seed)
    replies = generate_replies(
        decoder_of(model),
        [prompt_ids(model, prompt) for prompt in several],
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
    ids = torch.tensor([prompt_ids(model, turns)], device=model.model.device)
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
