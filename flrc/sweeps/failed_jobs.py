"""What a sweep prints last: which jobs failed, and whether to give the same command again."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from flrc.sweeps.job_log import JobEntry


def list_failed(entries: Sequence[JobEntry]) -> None:
    """List the jobs that failed.

    The error of a single job has been printed just before and is not repeated. That the same
    command continues is said only where it is true: not after a user's mistake.
    """
    console = Console()
    failed = [entry for entry in entries if entry.status == "failed"]
    if len(entries) > 1 and failed:
        console.print(f"{len(failed)} of {len(entries)} jobs failed:", style="bold red")
        for entry in failed:
            console.print(f"  {entry.overrides}: {entry.error}", soft_wrap=True, markup=False)
            if entry.folder:
                console.print(f"    see {entry.folder}/run.log", soft_wrap=True, markup=False)
    if any(not entry.mistake for entry in failed):
        console.print("The same command computes only what is missing.")
