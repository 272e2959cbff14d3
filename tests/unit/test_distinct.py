"""Records without repetitions, and without needless comparisons of their contents."""

from __future__ import annotations

import pytest
import records_factory as factory

from flrc.results.records import distinct as module
from flrc.results.records.distinct import distinct
from flrc.results.records.record import Record


def test_equal_records_count_once() -> None:
    first, again, other = (factory.record("kfac", rate) for rate in (0.2, 0.2, 0.3))
    changed = factory.record("kfac", 0.2)
    changed.results["measurements"][0]["value"] = 7.0
    assert distinct([first, other, again, changed, first]) == [first, other, changed]
    for made in (first, again):
        made.results["measurements"][0]["value"] = float("nan")  # equal as it is written
    assert [id(record) for record in distinct([first, again])] == [id(first)]


def test_contents_are_compared_only_where_ids_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    canonical = module.canonical
    monkeypatch.setattr(
        module,
        "canonical",
        lambda value: (compared.append(value["run"]["id"]), canonical(value))[1],
    )
    records: list[Record] = [factory.record("kfac", rate) for rate in (0.2, 0.3, 0.4, 0.4)]
    assert distinct(records) == records[:3]
    assert set(compared) == {records[2].run["id"]}
