"""The record of a model that was tuned after its run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flrc.models.checkpoints.weights import WEIGHTS, weights_digest
from flrc.results.records.record import OTHER_SETTINGS, Record

if TYPE_CHECKING:
    from torch import nn

    from flrc.library.student import Student

HEALING = "healing"


def healed_record(student: Student, model: nn.Module, notes: dict[str, Any]) -> Record | None:
    """A copy of the student's record that says how the model was tuned; None if it has none.

    Measurements of other weights are left out; those of weights that stayed are kept. An earlier
    healing is kept under ``before``.
    """
    record = student.record
    if record is None:
        return None
    results = dict(record.results)
    before = {"before": results[HEALING]} if HEALING in results else {}
    results[HEALING] = {**notes, **before}
    if weights_digest(model) != student.weights:
        results["measurements"] = []
        results.pop(OTHER_SETTINGS, None)
    # The digest of the weights that the run measured stays: flrc.save compares the model's with it.
    return dataclasses.replace(
        record, results=results, meta={WEIGHTS: student.weights, **record.meta}
    )
