"""Paired tests: is one run better than another on the same items, or several on the same seeds?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from flrc.core.jsonfile import canonical
from flrc.results.records.mean_name import mean_name
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder

if TYPE_CHECKING:
    import numpy as np

DRAWS = 10_000
"""Resamples of a bootstrap."""
KEPT = 10_000_000
"""Numbers up to which the resamples of a comparison are kept for the next ones: 20 MB."""
TASK = "zeroshot/"
"""Prefix of the names of a task's scores."""
SAMPLE = "sample_"
"""Begins the name of a task on sample data."""
ACCURACY = " acc"
"""Suffix of the name of a task's accuracy."""
NO_SCORES = ("tokens", "predicted", "gold")
"""Suffixes of the names of counts and labels, which are not scores."""

Parts = list[tuple[list[float], list[float]]]
Items = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Evaluation, part and settings -> item id -> what is stored of the item."""


@dataclass(frozen=True)
class Paired:
    """The second run compared with the first, in pairs.

    Attributes:
        name: Evaluation, part and score.
        items: Number of pairs: items, or seeds.
        first: Mean of the first run.
        second: Mean of the second run.
        low: Lower end of the 95 % confidence interval of the mean difference; ``high`` the upper.
        above: Probability that the second mean is larger, by the same resamples or distribution;
            ties count half.
    """

    name: str
    items: int
    first: float
    second: float
    low: float
    high: float
    above: float


def bootstrap(
    first: Sequence[float], second: Sequence[float], name: str = "", seed: int = 0
) -> Paired:
    """Paired bootstrap: items are resampled with replacement, both scores of an item together.

    Source: Efron and Tibshirani (1993), chapter 13; Koehn (2004) for comparing systems.
    """
    return bootstrap_of_mean([(first, second)], name, seed)


def bootstrap_of_mean(
    parts: Sequence[tuple[Sequence[float], Sequence[float]]], name: str = "", seed: int = 0
) -> Paired:
    """Paired bootstrap of a mean over parts (tasks): each part's items are resampled separately."""
    import numpy as np

    pairs = [np.asarray(part, dtype=np.float64) for part in parts]
    sizes = tuple(pair.shape[1] for pair in pairs)
    drawn = _kept(sizes, seed) if sum(sizes) * DRAWS <= KEPT else _resamples(sizes, seed)
    means: Any = 0
    for (one, two), counts in zip(pairs, drawn, strict=True):
        means = means + np.concatenate([c @ (two - one) for c in counts]) / len(one)
    means = means / len(pairs)
    low, high = np.quantile(means, [0.025, 0.975])
    above = float((means > 0).mean() + (means == 0).mean() / 2)
    one, two = (float(np.mean([pair[side].mean() for pair in pairs])) for side in (0, 1))
    items = sum(pair.shape[1] for pair in pairs)
    return Paired(name, items, one, two, float(low), float(high), above)


def student(first: Sequence[float], second: Sequence[float], name: str = "") -> Paired:
    """Student's t interval of the mean difference of pairs: for seeds, too few to resample.

    Raises:
        ValueError: If there are fewer than two pairs.

    Source: Student (1908); three seeds leave two degrees of freedom, hence 4.3 standard errors.
    """
    import numpy as np
    from scipy import stats

    if len(first) < 2:
        raise ValueError("one pair has no spread")
    gains = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    mean, error = float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5
    reach = float(stats.t.ppf(0.975, len(gains) - 1)) * error
    one, two = float(np.mean(first)), float(np.mean(second))
    if error == 0:
        above = 0.5 if mean == 0 else float(mean > 0)
    else:
        above = float(stats.t.cdf(mean / error, len(gains) - 1))
    return Paired(name, len(gains), one, two, mean - reach, mean + reach, above)


def _resamples(sizes: Sequence[int], seed: int) -> Iterator[Iterator[np.ndarray[Any, Any]]]:
    """For each part how often every item is drawn, ``[resample, item]``, in chunks of resamples.

    They depend on the sizes of the parts alone. Chunks bound the memory.
    """
    import numpy as np

    draw = np.random.default_rng(seed)

    def of_part(count: int) -> Iterator[np.ndarray[Any, Any]]:
        chunk = max(1, 4_000_000 // count)
        for begin in range(0, DRAWS, chunk):
            even = np.full(count, 1 / count)
            yield draw.multinomial(count, even, size=min(chunk, DRAWS - begin))

    return (of_part(count) for count in sizes)


@lru_cache(maxsize=4)
def _kept(sizes: tuple[int, ...], seed: int) -> list[list[np.ndarray[Any, Any]]]:
    """The same, kept: the orders of a study compare the same items again and again."""
    return [[c.astype("uint16") for c in part] for part in _resamples(sizes, seed)]


def items_of(folder: RunFolder, record: Record) -> Items:
    """What is stored of every item behind a run's measurements."""
    by_part: dict[str, dict[str, dict[str, Any]]] = {}
    for _, values in folder.evaluations(record):
        items = [item for item in values.get("items", []) if "id" in item]
        if items:
            # Not the file's part: in files of earlier versions it names sample data wrongly.
            measured = values["measurements"]
            part = measured[0]["name"].rpartition("/")[0] if measured else values["part"]
            key = f"{values['evaluation']}/{part} {canonical(values['settings'])}"
            by_part[key] = {str(item["id"]): item for item in items}
    return by_part


def averaged(runs: Sequence[Items]) -> Items:
    """The mean scores of each item over runs that differ in the seed, for :func:`compare`.

    Items that one of the runs lacks are left out.
    """
    keys = set.intersection(*(set(run) for run in runs))
    by_part: dict[str, dict[str, dict[str, float]]] = {}
    for key in sorted(keys):
        shared = [item for item in runs[0][key] if all(item in run[key] for run in runs)]
        by_part[key] = {item: _mean([_scores(run[key][item]) for run in runs]) for item in shared}
    return by_part


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(item[name] for item in scores) / len(scores) for name in scores[0]}


def compare(first: Items, second: Items, only: str = "") -> list[Paired]:
    """Compare every score of the items that two runs share under equal settings.

    A score is any number of an item that is not a count or label, or whether its answer is right
    (in per cent). If both runs answered the same zero-shot tasks, and several, their mean accuracy
    comes last, named as in the records. ``only`` is a suffix of the names to compare, such as
    ``/arc_easy acc``.
    """
    pairs: dict[str, Parts] = {}
    for key in sorted(first.keys() & second.keys()):
        shared = [item for item in first[key] if item in second[key]]
        if len(shared) < 2:
            continue
        one, two = ([_scores(side[key][item]) for item in shared] for side in (first, second))
        for name in one[0]:
            pair = ([scores[name] for scores in one], [scores[name] for scores in two])
            pairs[f"{key.split(' ')[0]} {name}"] = [pair]
    tasks = [{key for key in side if key.startswith(TASK)} for side in (first, second)]
    answered = {
        name.removeprefix(TASK).removesuffix(ACCURACY): parts[0]
        for name, parts in pairs.items()
        if name.startswith(TASK) and name.endswith(ACCURACY)
    }
    if tasks[0] == tasks[1] and len(answered) == len(tasks[0]) > 1:
        pairs[_mean_of(answered)] = list(answered.values())
    return [bootstrap_of_mean(parts, name) for name, parts in pairs.items() if name.endswith(only)]


def _mean_of(labels: Collection[str]) -> str:
    """The name of the mean over these tasks, the sample's name before it on sample data."""
    sample = SAMPLE if all(label.startswith(SAMPLE) for label in labels) else ""
    return f"{TASK}{sample}zeroshot {mean_name([label.removeprefix(sample) for label in labels])}"


def _scores(item: Mapping[str, Any]) -> dict[str, float]:
    scores = {
        name: float(value)
        for name, value in item.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and not name.endswith(NO_SCORES)
    }
    return scores | ({"acc": 100.0 * item["correct"]} if "correct" in item else {})
