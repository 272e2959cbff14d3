"""What surrounds a call of lm-eval: silence, one process, and the model as it was."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def within_flrc() -> Iterator[None]:
    """Inside, lm-eval shows no bars and prints nothing, and resamples in this process.

    It would fork one process a core, with the model in memory.
    """
    import lm_eval.api.task as module

    name = "DISABLE_MULTIPROC"
    before, bar = os.environ.get(name), module.tqdm
    os.environ[name], module.tqdm = "1", lambda items, **_: items
    try:
        with (
            redirect_stdout(io.StringIO()),
            quiet("lm_eval.api.task"),
            quiet("lm_eval.evaluator"),
            quiet("lm_eval.evaluator_utils"),
        ):
            yield
    finally:
        module.tqdm = bar
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def ties_kept(model: PreTrainedModel) -> Iterator[None]:
    """Inside, ``tie_weights`` of the model does nothing.

    lm-eval calls it. On a compressed model whose head is separate, though its config says that it
    is tied, this would replace the head by the embedding.
    """
    model.__dict__["tie_weights"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        del model.__dict__["tie_weights"]


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Hide a logger's warnings that rows and models in memory cause; they are intended."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
