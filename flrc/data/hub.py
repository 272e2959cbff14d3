"""Data sets from the Hugging Face hub: the only source that may use the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flrc.core.network import online
from flrc.data.base import DataSource
from flrc.data.catalog import DATASETS, DatasetSpec, find
from flrc.data.rows import check_row
from flrc.errors import UserError, choose


@dataclass
class Hub(DataSource):
    """Reads the published data sets, running no code of theirs; what was fetched is kept.

    Attributes:
        cache: Folder for what is fetched; None for the one that ``datasets`` uses by default.
        revisions: Branch, tag or commit by data set, where not the catalogue's. Naming commits
            fixes the data for good; in any case the fingerprint is that of the rows that were read.
    """

    name: str = "hub"
    cache: str | None = None
    revisions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError if a revision is given for a data set that does not exist."""
        for dataset in self.revisions:
            choose("data.revisions", dataset, DATASETS)

    def rows(self, dataset: str, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in the published order; fetched on first use.

        Raises:
            UserError: If it cannot be fetched, or lacks a column.
        """
        spec = find(dataset, split)
        return list(_fetch(spec, split, self._revision(spec), self.cache))

    def label(self, dataset: str) -> str:
        """The benchmark's name."""
        return find(dataset).name

    def fingerprint(self, dataset: str, split: str) -> str:
        """Hexadecimal sha256 of the rows: a branch may move, so a revision's name would not do."""
        spec = find(dataset, split)
        return _fingerprint(spec, split, self._revision(spec), self.cache)

    def check_available(self, dataset: str, split: str) -> None:
        """Raise UserError if hub and cache do not have the split; fetches a description only."""
        import datasets

        spec = find(dataset, split)
        revision = self._revision(spec)
        with online(), _explained(spec, split, revision):
            builder = datasets.load_dataset_builder(**_where(spec, split, revision, self.cache))
            if builder.info.splits is not None and split not in builder.info.splits:
                raise ValueError(f"it has the splits {', '.join(builder.info.splits)}")

    def _revision(self, spec: DatasetSpec) -> str:
        return self.revisions.get(spec.name, spec.hub_revision)


def _where(spec: DatasetSpec, split: str, revision: str, cache: str | None) -> dict[str, Any]:
    where: dict[str, Any] = {
        "path": spec.hub_path,
        "name": spec.hub_config,
        "revision": revision,
        "cache_dir": cache,
    }
    if split in spec.hub_files:
        where["data_files"] = {split: spec.hub_files[split]}
    return where


@lru_cache(maxsize=2)
def _fetch(
    spec: DatasetSpec, split: str, revision: str, cache: str | None
) -> tuple[dict[str, Any], ...]:
    import datasets

    part = split if spec.hub_rows is None else f"{split}[:{spec.hub_rows}]"
    with online(), _explained(spec, split, revision):
        table = datasets.load_dataset(**_where(spec, split, revision, cache), split=part)
    missing = [column for column in spec.columns if column not in table.column_names]
    if missing:
        raise UserError(
            f"{spec.hub_path} lacks {', '.join(missing)}",
            given=f"columns {', '.join(table.column_names)}",
            allowed=f"columns {', '.join(spec.columns)}",
            fix=f"choose a revision that has them, as in +data.revisions.{spec.name}=COMMIT",
        )
    rows: tuple[dict[str, Any], ...] = tuple(table)
    for number, row in enumerate(rows, start=1):
        check_row(f"{spec.hub_path} {split}, row {number}", row, spec)
    return rows


@lru_cache(maxsize=64)
def _fingerprint(spec: DatasetSpec, split: str, revision: str, cache: str | None) -> str:
    digest = hashlib.sha256()
    for row in _fetch(spec, split, revision, cache):
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


@contextmanager
def _explained(spec: DatasetSpec, split: str, revision: str) -> Iterator[None]:
    try:
        yield
    # Whatever `datasets`, the hub's client or the connection raises has the same meaning and the
    # same cure.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        config = f" ({spec.hub_config})" if spec.hub_config else ""
        raise UserError(
            f"cannot fetch {spec.name} from the Hugging Face hub: {reason[:300]}",
            given=f"{spec.hub_path}{config}, split {split}, revision {revision}",
            fix=f"provide <root>/{spec.name}/{split}.jsonl, columns {', '.join(spec.columns)}, "
            "and use data=folder data.root=<root>; or run where the hub can be reached; "
            "data.cache=FOLDER, if the cache is closed",
        ) from error
