"""The name of a mean accuracy, which says over which tasks it is taken."""

from __future__ import annotations

from collections.abc import Collection

from flrc.core.jsonfile import digest
from flrc.data.dataset_catalog import MULTIPLE_CHOICE

MEAN = "mean_acc"
"""Over the paper's seven tasks, as in its tables."""
OF = f"{MEAN}_of_"
"""Begins the name of a mean over any other tasks."""
READABLE = 40
"""Characters up to which the tasks are named; more of them are counted."""


def mean_name(tasks: Collection[str]) -> str:
    """The metric's name: the same for the same tasks in any order, another for other tasks.

    ``mean_acc``, or ``mean_acc_of_boolq+sciq``, or ``mean_acc_of_57_tasks_1f2e3d``.
    """
    if set(tasks) == set(MULTIPLE_CHOICE):
        return MEAN
    listed = "+".join(sorted(tasks))
    if len(listed) <= READABLE:
        return f"{OF}{listed}"
    return f"{OF}{len(tasks)}_tasks_{digest(sorted(tasks), 6)}"
