"""A model saved in a local folder or file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from flrc.errors import UserError
from flrc.models.checkpoints.model_files import CONFIG, model_files, tokenizer_files
from flrc.models.sources.base import label_of
from flrc.models.sources.pretrained import Pretrained, fingerprint_of

INSIDE = (".safetensors", ".bin", ".json", ".jinja", ".model")
"""Suffixes of files that are only a part of a saved model."""


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
        path = Path(str(self.path))
        if not path.exists():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, siblings, n=1)
            fix = f"model.path={path.parent / close[0]}" if close else "check the path"
            raise self._wrong_path("the model path does not exist", fix)
        if path.is_file() and (path.parent / CONFIG).is_file() and path.suffix in INSIDE:
            problem = "the model path is a single file of a saved model"
            raise self._wrong_path(problem, f"model.path={path.parent}")
        return path

    def _wrong_path(self, problem: str, fix: str) -> UserError:
        allowed = "a folder written by save_pretrained, or a .gguf file"
        return UserError(problem, given=f"model.path={self.path}", allowed=allowed, fix=fix)

    def fingerprint(self) -> str:
        """Digest of the files that loading reads."""
        path = self._place()
        if path.is_file():  # a tokenizer beside it replaces its own
            return fingerprint_of(sorted([path, *tokenizer_files(path.parent)]))
        return fingerprint_of(model_files(path))
