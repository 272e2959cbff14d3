"""Data sets from the Hugging Face hub: the only data source that may use the network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from flrc.core.network import online
from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS, DatasetSpec, find
from flrc.errors import UserError, choose


@dataclass
class Hub(DataSource):
    """Reads the published data sets without running their code; downloads are cached.

    Attributes:
        cache: Folder for downloads; None for the default of ``datasets``.
        revisions: Branch, tag or commit by data set, as in ``+data.revisions.wikitext2=COMMIT``;
            the catalogue's for all others. Naming commits pins the data; in any case the
            fingerprint is that of the rows that were read.
    """

    name: str = "hub"
    cache: str | None = None
    revisions: dict[str, str] = field(default_factory=dict)

    NEEDS: ClassVar[tuple[str, ...]] = ("datasets",)

    def check(self) -> None:
        """Check that revisions are given for known data sets."""
        for dataset in self.revisions:
            choose("data.revisions", dataset, DATASETS)

    def rows(self, dataset: str | DatasetSpec, split: str) -> list[dict[str, Any]]:
        """All rows of a split, in the published order; downloaded on first use."""
        spec = find(dataset, split)
        return list(_fetch(spec, split, self._revision(spec), self.cache))

    def fingerprint(self, dataset: str | DatasetSpec, split: str) -> str:
        """Hexadecimal SHA-256 of the rows, not of the revision's name, since a branch can move."""
        spec = find(dataset, split)
        return _fingerprint(spec, split, self._revision(spec), self.cache)

    def check_available(self, dataset: str | DatasetSpec, split: str) -> None:
        """Raise UserError if neither hub nor cache has the split; downloads a description only."""
        import datasets

        spec = find(dataset, split)
        revision = self._revision(spec)
        with online(), _explained(spec, split, revision):
            builder = datasets.load_dataset_builder(
                **_load_options(spec, split, revision, self.cache)
            )
            if builder.info.splits is not None and split not in builder.info.splits:
                raise ValueError(f"its splits are {', '.join(builder.info.splits)}")

    def _revision(self, spec: DatasetSpec) -> str:
        return self.revisions.get(spec.name, spec.hub_revision)


def _load_options(
    spec: DatasetSpec, split: str, revision: str, cache: str | None
) -> dict[str, Any]:
    return {
        "path": spec.hub_path,
        "name": spec.hub_config,
        "revision": revision or None,
        "cache_dir": cache,
        "data_files": {split: spec.hub_files[split]} if split in spec.hub_files else None,
        **spec.hub_options,
    }


@lru_cache(maxsize=2)
def _fetch(
    spec: DatasetSpec, split: str, revision: str, cache: str | None
) -> tuple[dict[str, Any], ...]:
    import datasets

    part = split if spec.hub_rows is None else f"{split}[:{spec.hub_rows}]"
    with online(), _explained(spec, split, revision):
        table = datasets.load_dataset(**_load_options(spec, split, revision, cache), split=part)
    missing = [column for column in spec.columns if column not in table.column_names]
    if missing:
        raise UserError(
            f"{spec.hub_path} lacks {', '.join(missing)}",
            given=f"columns {', '.join(table.column_names)}",
            allowed=f"columns {', '.join(spec.columns)}",
            fix=f"choose a revision with these columns, as in +data.revisions.{spec.name}=COMMIT",
        )
    rows: tuple[dict[str, Any], ...] = tuple(table)
    for number, row in enumerate(rows, start=1):
        spec.check_row(f"{spec.hub_path} {split}, row {number}", row)
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
    # Errors of `datasets`, of the hub's client and of the connection all have the same fix.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        config = f" ({spec.hub_config})" if spec.hub_config else ""
        raise UserError(
            f"cannot download {spec.name} from the Hugging Face hub: {reason[:300]}",
            given=f"{spec.hub_path}{config}, split {split}, revision {revision}",
            fix=f"provide <root>/{spec.name}/{split}.jsonl, with {spec.described_columns()}, "
            "and use data=folder data.root=<root>; or run where the hub can be reached; or set "
            "data.cache=FOLDER if the cache is not writable",
        ) from error
