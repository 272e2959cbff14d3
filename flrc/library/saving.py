"""Saves a compressed model with its model card and its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flrc.library.compressed_model import loaded_of
from flrc.models.checkpoints.checkpoint import save as save_checkpoint
from flrc.models.checkpoints.save_folder import check_save_folder
from flrc.models.checkpoints.weights import WEIGHTS, weights_digest
from flrc.results.pages.model_card import describe

if TYPE_CHECKING:
    from flrc.library.compressed_model import CompressedModel


def save(model: CompressedModel, folder: str | Path) -> None:
    """Write a compressed model for :func:`flrc.load` and ``AutoModelForCausalLM``.

    Beside it lie its model card (``README.md``) and the record of its run, if it is known. The card
    states the dtype and size of what is written. What the run measured is left out of it if the
    weights are no longer those that were measured (another dtype, fine-tuned).

    Args:
        model: From :func:`flrc.compress` or :func:`flrc.load`; quantized or not.
        folder: Where to; an older checkpoint is replaced as a whole.

    Raises:
        UserError: If it is not a compressed model, or the folder holds anything but an older
            checkpoint; nothing is changed then.
    """
    loaded = loaded_of(model)
    place = check_save_folder(folder)
    save_checkpoint(loaded, place)
    companions = getattr(model, "flrc", None)
    record = None if companions is None else companions.record
    same = record is None or record.meta.get(WEIGHTS) == weights_digest(loaded.model)
    describe(place, record, measured=same)
