"""The interface of an evaluation: model in, measurements out, each part saved as it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from flrc.core.component import Component
from flrc.core.demand import Demand
from flrc.data.dataset_catalog import choose_kind, find
from flrc.errors import UserError
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from flrc.data.base import DataSource
    from flrc.data.token_sequences import TokenSequences
    from flrc.models.anatomy.model_shape import ModelShape
    from flrc.runtime.decoding import Decoder


@dataclass
class Subject:
    """What is evaluated.

    Attributes:
        decoder: The model in evaluation mode, on its device, its constant plan active, with its
            tokenizer and plans; generates under the run's schedule and accounts for the parameters
            that were used.
        data: Source of the evaluation rows.
        dense_replies: Token ids of the dense model's replies by evaluation part, item by item;
            empty if the evaluation does not generate.
        load_dense: Loads the dense model in addition to the compressed one, under the same runtime.
    """

    decoder: Decoder
    data: DataSource
    dense_replies: dict[str, list[list[int]]] = field(default_factory=dict)
    load_dense: Callable[[], AbstractContextManager[PreTrainedModel]] | None = None

    @property
    def model(self) -> PreTrainedModel:
        """The model that is evaluated."""
        return self.decoder.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.decoder.tokenizer

    @property
    def rate(self) -> float:
        """Realised rate of the constant plan."""
        plans = self.decoder.plans
        return 0.0 if plans is None else plans.constant.realised


@dataclass
class Evaluation(Component, ABC):
    """Measures a model. Its parts (data sets, tasks) are computed and saved one by one."""

    GENERATES: ClassVar[bool] = False
    """Whether replies are generated and compared with the dense model's, part by part."""

    def generates(self) -> bool:
        """Whether the run's schedule is followed, as in generation; else the constant plan is used.

        The search for a schedule waits until an evaluation does.
        """
        return type(self).GENERATES

    @abstractmethod
    def parts(self) -> list[str]:
        """Names of the parts, each computed and saved by itself."""

    @abstractmethod
    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Everything that decides the part's numbers (data, versions ...), as JSON values."""

    def label(self, part: str, data: DataSource) -> str:
        """The part's name in every output; on sample data the sample's, never a benchmark's."""
        return part

    def title(self, part: str, data: DataSource) -> str:
        """Evaluation and part, as stages and token digests are named: ``perplexity c4``."""
        return f"{self.name} {self.label(part, data)}"

    def split(self, part: str) -> str:
        """The evaluated split of a part that is a data set."""
        return find(part).evaluation_split

    def check_data(self, data: DataSource) -> None:
        """Raise UserError, before any work, if data, splits or local metric models are missing."""
        for part in self.parts():
            data.check_available(part, self.split(part))

    def require_enough(self, field: str, available: int, problem: str) -> None:
        """Raise UserError with this problem if ``field`` asks for more items than available."""
        asked = getattr(self, field)
        if asked is not None and available < asked:
            raise UserError(
                problem,
                given=f"evaluation.{self.name}.{field}={asked}",
                allowed=f"at most {available}, or null for all",
            )

    @abstractmethod
    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """Every token that the model will be fed; read before any work.

        Raises:
            UserError: If a row that is used is bad, or there are too few.
        """

    def demand(self, shape: ModelShape, read: TokenSequences, kept: float) -> Demand:
        """What :meth:`evaluate` takes for the sequences of a part; reads no weight.

        Replies count at their full length. Metrics of texts are not counted.

        Args:
            shape: Of the dense model.
            read: The tokens that the model is fed.
            kept: Share of the targets' weights that a step uses.
        """
        lengths, batch = [len(ids) for ids in read.ids], getattr(self, "batch_size", 1)
        if not read.new_tokens:
            return shape.forward(lengths, kept=kept, batch=batch)
        return shape.generation(lengths, new_tokens=read.new_tokens, batch=batch, kept=kept)

    @abstractmethod
    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Compute one part."""

    def reply_settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Everything that decides the replies of a part; only if ``GENERATES``."""
        raise TypeError(f"{self.name} generates no text")

    def replies(
        self, data: DataSource, tokenizer: PreTrainedTokenizerBase, decoder: Decoder, part: str
    ) -> list[list[int]]:
        """Token ids of every reply of a part; only if ``GENERATES``."""
        raise TypeError(f"{self.name} generates no text")

    def summarise(self, measurements: Iterable[Measurement]) -> list[Measurement]:
        """Measurements derived from all parts (means over tasks); empty unless overridden."""
        return []


@dataclass
class DatasetEvaluation(Evaluation):
    """An evaluation whose parts are data sets of one kind, each on its evaluation split."""

    datasets: list[str] = field(default_factory=list)

    KIND: ClassVar[str] = ""
    """Kind of the data sets, as in :class:`~flrc.data.dataset_catalog.DatasetSpec`."""

    def check(self) -> None:
        """There are data sets, and they are of the right kind."""
        self.require(len(self.datasets) > 0, "datasets", "one data set or more")
        choose_kind(f"evaluation.{self.name}.datasets", self.datasets, self.KIND)

    def parts(self) -> list[str]:
        """The data sets."""
        return list(self.datasets)

    def label(self, part: str, data: DataSource) -> str:
        """The name of the data set in its source."""
        return data.label(part)

    def data_settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Version of the evaluation; label, split and fingerprint of a data set."""
        split = self.split(part)
        return {
            "version": type(self).VERSION,
            "dataset": data.label(part),
            "split": split,
            "data": data.fingerprint(part, split),
        }
