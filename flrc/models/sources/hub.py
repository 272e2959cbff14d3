"""A model on the Hugging Face Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flrc.core.network import online
from flrc.errors import UserError
from flrc.models.checkpoints.model_files import CONFIG
from flrc.models.sources.file_inspection import check_kind
from flrc.models.sources.hub_page import hub_page
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

    def check(self) -> None:
        """An id is given, in the Hub's form; the label defaults to it, as ``owner--name``."""
        if not self.id.strip():
            fix = "model=OWNER/NAME, or model.id=OWNER/NAME"
            raise UserError("model=hub needs the id of a model", given="model.id=", fix=fix)
        self._check_id()
        if not self.label:
            self.label = self.id.replace("/", "--")

    def _check_id(self) -> None:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        try:
            validate_repo_id(self.id)
        except HFValidationError as error:
            page = hub_page(self.id)
            raise UserError(
                "model.id is not the id of a model on the Hub",
                given=f"model.id={self.id}",
                allowed="OWNER/NAME, or NAME: letters, digits, and . _ - within",
                fix=f"for a saved model, model={_path(self.id)}" if page is None else page.settings,
            ) from error

    def _source(self) -> dict[str, Any]:
        return {"pretrained_model_name_or_path": self.id, "revision": self.revision}

    def _place(self) -> Path | None:
        """The snapshot in the local cache, with the files downloaded so far."""
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(self.id, CONFIG, revision=self.revision)
        return Path(config).parent if isinstance(config, str) else None

    def origin(self) -> dict[str, str]:
        """Its id, and the licence if its card is in the local cache."""
        return {**super().origin(), "id": self.id}

    @contextmanager
    def _access(self, location: dict[str, Any], part: str) -> Iterator[None]:
        with online(), super()._access(location, part), self._explained():
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Answer what the hub refuses, or what it cannot be asked, with what to do about it."""
        try:
            yield
        except Exception as error:
            causes = list(_causes(error))
            for kinds, problem, fix in self._refusals():
                if any(isinstance(cause, kinds) for cause in causes):
                    given = f"model.id={self.id}, model.revision={self.revision}"
                    raise UserError(problem, given=given, fix=fix) from error
            raise

    def _refusals(self) -> list[tuple[tuple[type[Exception], ...], str, str]]:
        """Errors of the hub, what they mean, and what to do; the more specific first."""
        from huggingface_hub import errors

        return [
            (
                (errors.GatedRepoError,),
                "the model's licence must be accepted before it can be downloaded",
                f"accept it at hf.co/{self.id}, then hf auth login",
            ),
            (
                (errors.RevisionNotFoundError,),
                "the model has no such revision",
                f"model.revision=REVISION, a commit, tag or branch of hf.co/{self.id}",
            ),
            (
                (errors.RepositoryNotFoundError,),
                "the Hub has no such model, or it is private",
                "check OWNER/NAME; for a private model, hf auth login; for a saved one, its path",
            ),
            (
                (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled),
                "the Hub cannot be reached, and the model is not in its local cache",
                f"with a network: hf download {self.id} --local-dir FOLDER; then model=FOLDER "
                "(HF_HUB_OFFLINE=1 keeps flrc offline; unset it to go online)",
            ),
        ]

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
        return hashlib.sha256(f"{self.id}@{self.commit()}".encode()).hexdigest()

    def commit(self) -> str:
        """The commit that the revision is, or the revision itself if the cache does not tell."""
        self.config()
        place = self._place()
        return self.revision if place is None else place.name


def _path(text: str) -> str:
    """A text as the value of ``model`` that means a path."""
    return text if text.startswith((".", "/", "~")) else f"./{text}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
