"""A model on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.core.network import online
from flrc.models.checkpoints.model_files import CONFIG
from flrc.models.sources.file_inspection import check_kind
from flrc.models.sources.pretrained import Pretrained


@dataclass
class Hub(Pretrained):
    """A model on the Hugging Face Hub, or in its local cache.

    Attributes:
        id: ``owner/name`` on the hub.
        revision: Commit, tag or branch; pin a commit for published results.
    """

    name: str = "hub"
    id: str = ""
    revision: str = "main"

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": self.id, "revision": self.revision}

    def _place(self) -> Path | None:
        """The snapshot in the local cache, with the files downloaded so far."""
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(self.id, CONFIG, revision=self.revision)
        return Path(config).parent if isinstance(config, str) else None

    @contextmanager
    def _access(self, location: dict[str, Any], part: str) -> Iterator[None]:
        with online(), super()._access(location, part):
            yield

    def check_available(self) -> None:
        """The config can be read from the cache or the network, and there is no adapter."""
        from transformers.utils import find_adapter_config_file

        with self._access(self._source(), CONFIG):
            adapter = find_adapter_config_file(self.id, revision=self.revision)
        if adapter is not None:
            check_kind(Path(adapter).parent)
        self.config()

    def fingerprint(self) -> str:
        """Digest of the id and of the commit of the revision, which names the snapshot's folder."""
        self.config()
        place = self._place()
        commit = self.revision if place is None else place.name
        return hashlib.sha256(f"{self.id}@{commit}".encode()).hexdigest()
