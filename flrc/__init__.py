"""flrc: compress large language models with low-rank factors, and know what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flrc.models.registration import register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flrc.models.checkpoint import Loaded

__all__ = ["generate", "load"]

register()


def load(path: str | Path, device: str = "auto") -> Loaded:
    """A compressed model that a run with ``model.save=true`` has written.

    Args:
        path: The run's folder, or the ``model`` folder in it.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        UserError: If there is no such model, or its files are damaged.
    """
    from flrc.generation import load as load_

    return load_(path, device)


def generate(model: Loaded, prompts: str | Sequence[str], **options: Any) -> str | list[str]:
    """Replies to one prompt or several, under the model's own schedule.

    See :func:`flrc.generation.generate` for the options.
    """
    from flrc.generation import generate as generate_

    return generate_(model, prompts, **options)
