"""Numbers over several tasks: those that lm-eval's groups define, and the mean accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from flrc.errors import UserError
from flrc.evaluation.lm_eval_definitions import Aggregate, TaskGroup, group_of
from flrc.results.records.mean_name import mean_name
from flrc.results.records.measurement import Measurement

_ACCURACY = "acc"


def group_measurements(
    names: Iterable[str], measurements: Sequence[Measurement]
) -> list[Measurement]:
    """Every metric of every group among the names, and of groups inside them, once measured."""
    by_task = _by_task(measurements)
    groups = {g.name: g for name in names for g in (group_of(name), *group_of(name).inside)}
    return [
        measurement
        for group in groups.values()
        for aggregate in group.aggregates
        for metric in _metrics(aggregate, by_task, group)
        if (measurement := _over(group, metric, aggregate.by_size, by_task)) is not None
    ]


def mean_accuracy(names: Sequence[str], measurements: Sequence[Measurement]) -> list[Measurement]:
    """The unweighted mean accuracy over the names: a group counts once, with its own accuracy.

    Its name says which tasks it covers. Empty until all of them are measured, if one has no
    accuracy, and for a single one, whose accuracy would be its mean.

    Raises:
        UserError: If they were measured on different data sources or at different rates.
    """
    by_task = _by_task(measurements)
    parts: dict[str, Measurement] = {}
    for name in names:
        group = group_of(name)
        by_size = {a.metric: a.by_size for a in group.aggregates}.get(_ACCURACY)
        found = (
            {task: by_task.get(task, {}).get(_ACCURACY) for task in group.tasks}
            if by_size is None
            else {name: _over(group, _ACCURACY, by_size, by_task)}
        )
        for task, measurement in found.items():
            if measurement is None:
                return []
            parts[task] = measurement
    if len(parts) == 1:
        return []
    metric = mean_name(parts)
    prefix, rate = _common("a mean", list(parts.values()))
    errors = [m.stderr for m in parts.values() if m.stderr is not None]
    return [
        Measurement(
            name=f"{prefix}zeroshot/{metric}",
            value=sum(m.value for m in parts.values()) / len(parts),
            unit="%",
            higher_is_better=True,
            # The errors are independent: the variance of a mean of k is their sum over k^2.
            stderr=math.hypot(*errors) / len(parts) if len(errors) == len(parts) else None,
            count=sum(m.count for m in parts.values()),
            settings={
                "metric": metric,
                "tasks": {f"{prefix}{name}": m.settings for name, m in parts.items()},
            },
            rate=rate,
        )
    ]


def _by_task(measurements: Iterable[Measurement]) -> dict[str, dict[str, Measurement]]:
    """Measurements of tasks by task and metric."""
    by_task: dict[str, dict[str, Measurement]] = {}
    for measurement in measurements:
        task = measurement.settings.get("task")
        if isinstance(task, str):
            by_task.setdefault(task, {})[measurement.name.rpartition("/")[2]] = measurement
    return by_task


def _metrics(
    aggregate: Aggregate, by_task: Mapping[str, Mapping[str, Measurement]], group: TaskGroup
) -> list[str]:
    """Names of an aggregate's metrics, one for each filter of the replies."""
    if aggregate.filters is not None:
        return [
            aggregate.metric if kind == "none" else f"{aggregate.metric}-{kind}"
            for kind in aggregate.filters
        ]
    names = {name for task in group.tasks for name in by_task.get(task, {})}
    return sorted(
        name
        for name in names
        if name == aggregate.metric or name.startswith(f"{aggregate.metric}-")
    )


def _over(
    group: TaskGroup,
    metric: str,
    by_size: bool,
    by_task: Mapping[str, Mapping[str, Measurement]],
) -> Measurement | None:
    """A group's value of a metric as lm-eval computes it; None if a task has not been measured.

    Tasks that are measured without this metric are left out, as there.
    """
    from lm_eval.api.metrics import (
        aggregate_subtask_metrics,
        pooled_sample_stderr,
        unweighted_mean_stderr,
    )

    if not all(task in by_task for task in group.tasks):
        return None
    parts = [by_task[task][metric] for task in group.tasks if metric in by_task[task]]
    if not parts:
        return None
    _, rate = _common(f"{group.name}/{metric}", parts)
    sizes = [part.count for part in parts]
    errors = [part.stderr for part in parts if part.stderr is not None]
    error = None
    if len(errors) == len(parts):
        pooled = pooled_sample_stderr(errors, sizes) if by_size else unweighted_mean_stderr(errors)
        error = float(pooled)
    return Measurement(
        name=f"{group.name}/{metric}",
        value=float(aggregate_subtask_metrics([part.value for part in parts], sizes, by_size)),
        unit=parts[0].unit,
        higher_is_better=parts[0].higher_is_better,
        stderr=error,
        count=sum(sizes),
        settings={
            "group": group.name,
            "group_version": group.version,
            "metric": metric,
            "weight_by_size": by_size,
            "tasks": {str(part.settings["task"]): part.settings for part in parts},
        },
        rate=rate,
    )


def _common(what: str, parts: Sequence[Measurement]) -> tuple[str, float]:
    """Prefix of the tasks' names (``sample_`` for the sample) and rate of all measurements.

    The rate of replies is the mean over the questions.
    """
    prefixes = {
        m.name.rpartition("/")[0].removesuffix(str(m.settings.get("task", m.settings.get("group"))))
        for m in parts
    }
    # Replies have the rate of their own lengths; everything else that of the constant plan.
    generated = [m for m in parts if "max_new_tokens" in m.settings]
    rates = {m.rate for m in parts if m not in generated}
    if len(prefixes) > 1 or len(rates) > 1:
        raise UserError(
            f"zeroshot: {what} needs all tasks on one data source and at one rate",
            given=", ".join(f"{m.name} at rate {m.rate:g}" for m in parts),
        )
    if generated:
        rate = sum(m.rate * m.count for m in parts) / sum(m.count for m in parts)
        return prefixes.pop(), rate
    return prefixes.pop(), rates.pop()
