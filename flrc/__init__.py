"""flrc: compress large language models with low-rank factors, and know what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flrc.models.registration import register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.models.checkpoint import Loaded
    from flrc.records.record import Record

__all__ = ["compress", "generate", "load", "run", "save"]

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


def save(model: Loaded, folder: str | Path) -> None:
    """Write a compressed model for :func:`load` and ``AutoModelForCausalLM``.

    Args:
        model: From :func:`compress` or :func:`load`.
        folder: Where to; what is there is replaced once everything is written.
    """
    from pathlib import Path

    from flrc.models.checkpoint import save as save_

    save_(model, Path(folder).expanduser())


def run(*overrides: str) -> Record:
    """What ``python run.py`` does with these words; see :func:`flrc.library.run`."""
    from flrc.library import run as run_

    return run_(*overrides)


def compress(
    model: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    method: str = "flrc",
    rate: float = 0.2,
    calibration: Sequence[str | Tensor] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> tuple[Loaded, Record]:
    """Compress a causal language model, in memory or by name; see :func:`flrc.library.compress`."""
    from flrc.library import compress as compress_

    return compress_(
        model,
        tokenizer,
        method=method,
        rate=rate,
        calibration=calibration,
        seed=seed,
        overrides=overrides,
    )
