"""A model on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.models.checkpoints.model_files import CONFIG
from flrc.models.sources import file_inspection
from flrc.models.sources.base import Pretrained


@dataclass
class Hub(Pretrained):
    """A model on the Hugging Face hub, or in its local cache.

    Attributes:
        id: ``owner/name``.
        revision: Commit, tag or branch.
    """

    name: str = "hub"
    id: str = ""
    revision: str = "main"

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": self.id, "revision": self.revision}

    def _place(self) -> Path | None:
        """The snapshot in the local cache; files that were not asked for yet are not there."""
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(self.id, CONFIG, revision=self.revision)
        return Path(config).parent if isinstance(config, str) else None

    @contextmanager
    def _access(self, location: dict[str, Any], what: str) -> Iterator[None]:
        from flrc.core.network import online

        with online(), super()._access(location, what):
            yield

    def check_available(self) -> None:
        """The config can be read (from the cache or the network), and there is no adapter."""
        from transformers.utils import find_adapter_config_file

        with self._access(self._source(), CONFIG):
            adapter = find_adapter_config_file(self.id, revision=self.revision)
        if adapter is not None:
            file_inspection.check_kind(Path(adapter).parent)
        self.config()

    def fingerprint(self) -> str:
        """Id and the commit that the revision stands for: the snapshot's, which bears its name."""
        self.config()
        place = self._place()
        commit = self.revision if place is None else place.name
        return hashlib.sha256(f"{self.id}@{commit}".encode()).hexdigest()
