"""A model on the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flrc.models.base import Pretrained


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

    @contextmanager
    def _access(self, location: dict[str, Any]) -> Iterator[None]:
        from flrc.network import online

        with online(), super()._access(location):
            yield

    def check_available(self) -> None:
        """The config can be read (from the cache or the network)."""
        self.config()

    def fingerprint(self) -> str:
        """Id and the commit that the revision stands for."""
        commit = getattr(self.config(), "_commit_hash", None) or self.revision
        return hashlib.sha256(f"{self.id}@{commit}".encode()).hexdigest()
