"""A saved model."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.digests import file_digest
from flrc.models.base import Pretrained


@dataclass
class Local(Pretrained):
    """A saved model: a folder as ``save_pretrained`` writes it, or a GGUF file.

    Attributes:
        path: Folder or ``.gguf`` file.
    """

    name: str = "local"
    path: str | None = None

    def check(self) -> None:
        """A path must be given; the label is its last part unless set."""
        if self.path is None:
            raise UserError(
                "model=local needs a path", fix="model.path=FOLDER or model.path=FILE.gguf"
            )
        if not self.label:
            self.label = Path(self.path).stem or "local"

    def check_available(self) -> None:
        """The path exists and looks like a model."""
        path = Path(str(self.path))
        if not path.exists():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, siblings, n=1)
            raise UserError(
                "the model path does not exist",
                given=f"model.path={self.path}",
                allowed="a folder written by save_pretrained, or a .gguf file",
                fix=f"model.path={path.parent / close[0]}" if close else "check the path",
            )
        if path.is_dir() and not (path / "config.json").is_file():
            raise UserError(
                "the model folder has no config.json",
                given=f"model.path={self.path}",
                allowed="a folder written by save_pretrained, or a .gguf file",
            )

    def _source(self) -> dict[str, Any]:
        self.check_available()
        path = Path(str(self.path))
        if path.is_file():
            return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        return {"pretrained_model_name_or_path": str(path)}

    def _files(self) -> list[Path]:
        self.check_available()
        path = Path(str(self.path))
        return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())

    def fingerprint(self) -> str:
        """Digest of all its files."""
        digests = [f"{file.name} {file_digest(file)}" for file in self._files()]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()
