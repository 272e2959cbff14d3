"""A model saved in a local folder or file."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from flrc.errors import UserError
from flrc.models.checkpoints.model_files import CONFIG, model_files, tokenizer_files
from flrc.models.sources.base import label_of
from flrc.models.sources.pretrained import Pretrained, fingerprint_of

INSIDE = (".safetensors", ".bin", ".json", ".jinja", ".model")
"""Suffixes of files that are only a part of a saved model."""
SAVED = "a folder written by save_pretrained, or a .gguf file"


@dataclass
class Local(Pretrained):
    """A saved model: a folder as ``save_pretrained`` writes it, or a GGUF file.

    Attributes:
        path: Folder written by ``save_pretrained``, or a ``.gguf`` file.
    """

    name: str = "local"
    path: str | None = None

    def check(self) -> None:
        """A path is given; the label defaults to its last part."""
        if self.path is None:
            raise UserError(
                "model=local needs a path", fix="model.path=FOLDER or model.path=FILE.gguf"
            )
        if not self.label:
            self.label = label_of(self.path) or "local"

    def _place(self) -> Path:
        if (wrong := wrong_path(str(self.path))) is not None:
            problem, meant = wrong
            raise UserError(
                problem,
                given=f"model.path={self.path}",
                allowed=SAVED,
                fix="check the path" if meant is None else f"model.path={meant}",
            )
        return Path(str(self.path))

    def fingerprint(self) -> str:
        """Digest of the files that loading reads."""
        path = self._place()
        if path.is_file():  # a tokenizer beside it replaces its own
            return fingerprint_of(sorted([path, *tokenizer_files(path.parent)]))
        return fingerprint_of(model_files(path))


def wrong_path(given: str) -> tuple[str, str | None] | None:
    """Why a path is not that of a saved model, and what was probably meant, spelled alike.

    Returns:
        None if there is a folder, or a file that is not a part of a saved model.
    """
    path, above = Path(given), os.path.dirname(given.rstrip("/"))
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        return "the model path does not exist", os.path.join(above, close[0]) if close else None
    if path.is_file() and (path.parent / CONFIG).is_file() and path.suffix in INSIDE:
        return "the model path is a single file of a saved model", above or "."
    return None
