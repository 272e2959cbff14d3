"""The data sets that flrc supports: columns, splits, and where they are published."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from flrc.errors import UserError, choose


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: Name of the data set everywhere in flrc.
        kind: ``text``, ``summarization`` or ``multiple_choice``; ``lm_eval`` for the data of a task
            that is not in the catalog.
        columns: Required columns; rows may have more.
        texts: The columns that hold text.
        hub_path: Repository on the Hugging Face hub.
        hub_config: Configuration of the repository, if it has several.
        splits: Splits of the published data set.
        evaluation_split: The split on which published numbers are measured.
        hub_revision: Branch, tag or commit that is read unless the user pins another; "" for data
            that is not on the hub.
        hub_files: File of each split, if only a part of a large data set is read.
        hub_rows: Maximum number of rows, if only a part of a large data set is read.
        hub_options: Other arguments of ``datasets.load_dataset``.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    texts: tuple[str, ...]
    hub_path: str
    hub_config: str | None = None
    splits: tuple[str, ...] = ("train", "validation", "test")
    evaluation_split: str = "test"
    hub_revision: str = "main"
    hub_files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    hub_rows: int | None = None
    hub_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def described_columns(self) -> str:
        """The required columns, for messages."""
        if self.columns:
            return f"the columns {', '.join(self.columns)}"
        return f"the columns of {self.hub_path or 'the published data set'}"

    def check_row(self, place: str, row: Mapping[str, Any]) -> None:
        """Check that every required column has a value, and that text columns hold strings.

        Raises:
            UserError: If a column is missing or null, or a text column holds another type; names
                the place: file and line, or data set and row.
        """
        missing = [column for column in self.columns if row.get(column) is None]
        if missing:
            raise UserError(
                f"{place} lacks {', '.join(missing)}",
                given=f"columns {', '.join(row)}",
                allowed=f"columns {', '.join(self.columns)}, each with a value",
            )
        for column in self.texts:
            if not isinstance(row[column], str):
                raise UserError(
                    f"{place} has no text in column {column}",
                    given=f"{column}: {json.dumps(row[column], default=str)[:80]}",
                    allowed="a string",
                )


_ARC = ("question", "choices", "answerKey")
_CHOICE = "multiple_choice"

# Hub paths and configurations of the multiple-choice tasks are those in the task files of lm-eval
# 0.4.13; a test compares them.
# fmt: off
_SPECS = (  # name, kind, columns, texts, hub path
    DatasetSpec(
        "wikitext2", "text", ("text",), ("text",), "Salesforce/wikitext",
        hub_config="wikitext-2-raw-v1",
    ),
    # C4 has 365 M documents. As in GPTQ, SparseGPT and SVD-LLM, only the first shard of each split
    # is read; its first 10,000 documents are several million tokens, more than any calibration or
    # evaluation here uses.
    DatasetSpec(
        "c4", "text", ("text",), ("text",), "allenai/c4",
        splits=("train", "validation"), evaluation_split="validation",
        hub_files=MappingProxyType({
            "train": "en/c4-train.00000-of-01024.json.gz",
            "validation": "en/c4-validation.00000-of-00008.json.gz",
        }),
        hub_rows=10_000,
    ),
    DatasetSpec(
        "dialogsum", "summarization", ("id", "dialogue", "summary"), ("dialogue", "summary"),
        "knkarthick/dialogsum",
    ),
    DatasetSpec(
        "cnn_dailymail", "summarization", ("id", "article", "highlights"),
        ("article", "highlights"), "abisee/cnn_dailymail", hub_config="3.0.0",
    ),
    DatasetSpec(
        "arc_easy", _CHOICE, _ARC, ("question",), "allenai/ai2_arc", hub_config="ARC-Easy"
    ),
    DatasetSpec(
        "arc_challenge", _CHOICE, _ARC, ("question",), "allenai/ai2_arc",
        hub_config="ARC-Challenge",
    ),
    DatasetSpec(
        "hellaswag", _CHOICE, ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
        ("activity_label", "ctx_a", "ctx_b"), "Rowan/hellaswag", evaluation_split="validation",
    ),
    DatasetSpec(
        "openbookqa", _CHOICE, ("question_stem", "choices", "answerKey"), ("question_stem",),
        "allenai/openbookqa", hub_config="main",
    ),
    DatasetSpec(
        "winogrande", _CHOICE, ("sentence", "option1", "option2", "answer"),
        ("sentence", "option1", "option2"), "allenai/winogrande", hub_config="winogrande_xl",
        evaluation_split="validation",
    ),
    DatasetSpec(
        "mathqa", _CHOICE, ("Problem", "options", "correct"), ("Problem", "options"),
        "regisss/math_qa",
    ),
    DatasetSpec(
        "piqa", _CHOICE, ("goal", "sol1", "sol2", "label"), ("goal", "sol1", "sol2"), "baber/piqa",
        evaluation_split="validation",
    ),
)
# fmt: on

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}
"""Every data set by name."""
MULTIPLE_CHOICE = tuple(name for name, spec in DATASETS.items() if spec.kind == _CHOICE)
"""The seven multiple-choice tasks of the paper."""


def find(dataset: str | DatasetSpec, split: str | None = None) -> DatasetSpec:
    """The data set of this name (or this one itself), with this split if one is given.

    Raises:
        UserError: If the data set does not exist or lacks the split.
    """
    if isinstance(dataset, DatasetSpec):
        spec = dataset
    else:
        spec = DATASETS[choose("data set", dataset, DATASETS)]
    if split is not None and split not in spec.splits:
        raise UserError(f"{spec.name} has no split {split!r}", given=split, allowed=spec.splits)
    return spec


def choose_kind(setting: str, datasets: Iterable[str], kind: str) -> None:
    """Raise UserError, naming the setting, unless every data set exists and is of this kind."""
    allowed = [name for name, spec in DATASETS.items() if spec.kind == kind]
    for dataset in datasets:
        choose(setting, dataset, allowed)
