"""Records without repetitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flrc.core.jsonfile import canonical
from flrc.results.records.record import Record


def distinct(records: Iterable[Record]) -> list[Record]:
    """The records, each once, in order of appearance.

    Records of one id may differ in their measurements: then all of them stay. Contents are compared
    only where ids are equal, because that takes longer than anything else with a record.
    """
    given = list(records)
    seen = Counter(str(record.run["id"]) for record in given)
    known: dict[tuple[str, str], Record] = {}
    for record in given:
        run_id = str(record.run["id"])
        content = canonical(record.to_json()) if seen[run_id] > 1 else ""
        known.setdefault((run_id, content), record)
    return list(known.values())
