"""The id and revision of a model in the address of its page on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<id>[\w.-]+(?:/[\w.-]+)?)"
    r"(?:/(?:tree|blob|resolve|raw|commit)/(?P<revision>[^/?#]+))?(?:[/?#].*)?"
)


@dataclass(frozen=True)
class HubPage:
    """What the address of a page names.

    Attributes:
        id: ``owner/name``, or the name alone of a model without an owner.
        revision: Commit, tag or branch; None if the address has none.
    """

    id: str
    revision: str | None

    @property
    def settings(self) -> str:
        """The settings of a run that mean the same model."""
        named = f"model={self.id}" if "/" in self.id else f"model=hub model.id={self.id}"
        return named if self.revision is None else f"{named} model.revision={self.revision}"


def hub_page(text: str) -> HubPage | None:
    """What an address names; None if the text is no address of a page on the Hub."""
    match = ADDRESS.fullmatch(text)
    if match is None:
        return None
    revision = match["revision"]
    return HubPage(match["id"], None if revision is None else unquote(revision))
