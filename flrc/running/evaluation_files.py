"""The file of each part of an evaluation, named as the part is in every output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flrc.data.base import DataSource
    from flrc.evaluation.base import Evaluation
    from flrc.results.records.measurement import Outcome
    from flrc.results.records.store import RunFolder


@dataclass(frozen=True)
class PartFile:
    """What a run's folder holds of one part of an evaluation, under its current settings."""

    folder: RunFolder
    evaluation: Evaluation
    part: str
    data: DataSource

    def load(self, tokens: str | None = None) -> Outcome | None:
        """What :meth:`save` saved, if it was measured on these tokens; None if it is not there.

        The files of earlier versions are named by the part itself, also on sample data.
        """
        settings = self.evaluation.settings(self.part, self.data)
        for name in dict.fromkeys((self._label, self.part)):
            outcome = self.folder.load_evaluation(self.evaluation.name, name, settings, tokens)
            if outcome is not None:
                return outcome
        return None

    def save(self, outcome: Outcome, tokens: str) -> None:
        """Save a part as soon as it is computed; it replaces the file of an earlier version."""
        settings, name = self.evaluation.settings(self.part, self.data), self.evaluation.name
        self.folder.save_evaluation(name, self._label, settings, outcome, tokens)
        if self._label != self.part:
            earlier = self.folder.evaluation_file(name, self.part, settings)
            (self.folder.path / earlier).unlink(missing_ok=True)

    @property
    def _label(self) -> str:
        return self.evaluation.label(self.part, self.data)
