"""What a dry run prints: the jobs, and what they would take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flrc.results.studies.estimate import duration, estimate
from flrc.running.dry_run import RunEstimate, StageEstimate
from flrc.sweeps.job_log import JobEntry


def print_plan(entries: Sequence[JobEntry], experiments: Path, console: Console) -> None:
    """Print what every job would do and take, and for a study how long similar runs took."""
    first: dict[str | None, JobEntry] = {}
    estimates: list[RunEstimate] = []
    paid: set[str] = set()
    for entry in entries:
        again = entry.folder in first
        status = "as above" if again else entry.status
        first.setdefault(entry.folder, entry)
        console.print(f"{status:>10}  {entry.folder}", soft_wrap=True, highlight=False)
        if entry.estimate is not None and not again:
            taken = shared(RunEstimate.from_json(entry.estimate), paid)
            estimates.append(taken)
            if len(entries) > 1:
                console.print(f"{'':>10}  {in_short(taken.stages)}", highlight=False)
    if estimates:
        if len(entries) == 1:
            console.print(table(estimates[0]))
        for line in summary(estimates):
            console.print(line, soft_wrap=not console.is_terminal, highlight=False)
    waiting = [entry for entry in first.values() if entry.status == "would run"]
    jobs = [
        {"runs": entry.runs, "study": entry.study.study, "facts": entry.study.facts}
        for entry in waiting
        if entry.study is not None
    ]
    if jobs and len(jobs) == len(waiting):
        console.print(estimate(jobs, experiments), soft_wrap=True, highlight=False)


def shared(estimate: RunEstimate, paid: set[str]) -> RunEstimate:
    """The estimate, whose stages that an earlier job computes are marked as cached.

    Adds the results of its stages to ``paid``.
    """
    stages = [
        replace(stage, cached=stage.cached or any(result in paid for result in stage.results))
        for stage in estimate.stages
    ]
    for stage in stages:
        paid.update(stage.results[-1:] if stage.name != "decomposition" else stage.results)
    return replace(estimate, stages=stages)


def in_short(stages: Iterable[StageEstimate]) -> str:
    """One line: operations, time and memory of the stages that are computed."""
    computed = [stage for stage in stages if not stage.cached]
    parts = [f"{_tera(sum(stage.operations for stage in computed))} TFLOP"]
    if all(stage.seconds is not None for stage in computed):
        parts.append(f"about {duration(sum(stage.seconds or 0.0 for stage in computed))}")
    parts.append(f"{_gigabytes(max(stage.host for stage in computed))} on the host")
    if on_device := [stage.device for stage in computed if stage.device is not None]:
        parts.append(f"{_gigabytes(max(on_device))} on the GPU")
    return ", ".join(parts)


def table(estimate: RunEstimate) -> Table:
    """A row for each stage."""
    found = Table(box=None, pad_edge=False)
    found.add_column("stage")
    gpu = any(stage.device is not None for stage in estimate.stages)
    for head in ("TFLOP", "minutes", "host memory", *(["GPU memory"] if gpu else [])):
        found.add_column(head, justify="right")
    for stage in estimate.stages:
        minutes = "" if stage.seconds is None else f"{stage.seconds / 60:,.1f}"
        work = ["", "cached"] if stage.cached else [_tera(stage.operations), minutes]
        device = [] if stage.device is None else [_gigabytes(stage.device)]
        found.add_row(stage.name, *work, _gigabytes(stage.host), *device)
    return found


def summary(estimates: Sequence[RunEstimate]) -> list[str]:
    """The total of all jobs, and how the numbers were made."""
    stages = [stage for estimate in estimates for stage in estimate.stages]
    lines = [f"In all: {in_short(stages)}, {_gigabytes(max(e.disk for e in estimates))} of cache."]
    known = next((e for e in estimates if e.rates is not None), None)
    how = "Reckoned from counted operations and bytes, not measured"
    if known is not None and known.rates is not None:
        at = "the GPU" if known.threads is None else _threads(known.threads)
        how += (
            f"; times from the throughput of {at} just now ({known.rates['model'] / 1e9:,.0f} "
            f"GFLOP/s, {known.rates['moved'] / 1e9:,.0f} GB/s)"
        )
    lines.append(f"{how}. Replies count at full length; docs/resources.md says how far it is off.")
    return lines


def _tera(operations: float) -> str:
    tera = operations / 1e12
    return f"{tera:,.0f}" if tera >= 100 else f"{tera:.3g}"


def _threads(count: int) -> str:
    return f"{count} CPU thread{'' if count == 1 else 's'}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size > 5e7 else "less than 0.1 GB"
