"""The names by which plots call runs, methods and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flrc.results.plots.methods import METHODS, Look, look_of
from flrc.results.plots.titles import MODELS
from flrc.results.records.record import Record
from flrc.results.records.store import model_name, requested_rate
from flrc.results.tables.labels import Presets, label_rows


@dataclass(frozen=True)
class Names:
    """The names by which plots call methods and models.

    Attributes:
        presets: The components of each preset.
        runs: Run id -> the name of its row in the table beside the plot, if there is one; in the
            order of that table.
        models: Label of a model -> its name in that table, if it has another there.
    """

    presets: Presets = field(default_factory=dict)
    runs: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)

    def model(self, label: str) -> str:
        """The printed name of a model."""
        return self.models.get(label, MODELS.get(label, label))

    def looks(self, rows: Mapping[str, str]) -> dict[str, Look]:
        """The look of each row of a table of runs, in the order of the table beside the plot.

        A name of the table that is also the printed name of a preset has the look of that preset:
        what Table 2 calls FLRC looks as FLRC does everywhere, though it is computed as ``flra``.

        Args:
            rows: Row label (:func:`~flrc.results.tables.labels.label_rows`) -> id of one of its
                runs.
        """
        own = {label: self.runs.get(run) for label, run in rows.items()}
        shared = {name for name, times in Counter(own.values()).items() if times > 1}
        by_name = {look.name: method for method, look in METHODS.items()}
        seen: Counter[Look] = Counter()
        looks: dict[str, Look] = {}
        places = {run: place for place, run in enumerate(self.runs)}
        last = len(places)
        # The methods themselves first; then in the order of the table.
        for label in sorted(
            rows, key=lambda label: (" · " in label, places.get(rows[label], last))
        ):
            method, _, settings = label.partition(" · ")
            name = own[label]
            look = look_of(method)
            if name is not None:
                called = name.partition(", ")[0].partition(" (")[0]
                look = look_of(by_name.get(called, method))
                settings = settings if name in shared else ""
            name = " · ".join(part for part in (name or look.name, settings) if part)
            looks[label] = look.variant_of(name, seen[look])
            seen[look] += 1
        return {
            label: looks[label]
            for label in sorted(rows, key=lambda label: places.get(rows[label], last))
        }

    def looks_of(self, records: Sequence[Record]) -> list[Look]:
        """The look of each run, by its row label among these runs."""
        labels = label_rows(records, self.presets)
        pairs = zip(labels, (str(record.run["id"]) for record in records), strict=True)
        looks = self.looks(dict(reversed(list(pairs))))
        return [looks[label] for label in labels]

    def run_names(self, records: Sequence[Record], *, rate: bool = True) -> list[str]:
        """A name for each run: its row's, and the model if they differ.

        With ``rate``, which the name then includes, no two runs share one: the seed is added where
        it distinguishes them.
        """
        names = [look.name for look in self.looks_of(records)]
        if rate:
            names = [
                f"{name}, {percent(requested_rate(record))}"
                for name, record in zip(names, records, strict=True)
            ]
        models = [self.model(model_name(record)) for record in records]
        if len(set(models)) > 1:
            names = [f"{name}, {model}" for name, model in zip(names, models, strict=True)]
        return with_seeds(names, records) if rate else names


def with_seeds(names: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The names, with the seed where runs of several seeds share one."""
    seeded = [f"{n}, seed {r.run.get('seed')}" for n, r in zip(names, records, strict=True)]
    runs_of = Counter(name for name, _ in dict.fromkeys(zip(names, seeded, strict=True)))
    return [n if runs_of[n] == 1 else s for n, s in zip(names, seeded, strict=True)]


def percent(rate: float) -> str:
    """A rate as the tables of studies print it."""
    return f"{100 * rate:g} %"
