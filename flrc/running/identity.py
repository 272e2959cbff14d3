"""Who a run is: an id made of everything that changes the compressed model and its decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flrc.core import jsonfile
from flrc.results.records.store import RunFolder

if TYPE_CHECKING:
    from flrc.config import RunConfig


def identity(config: RunConfig) -> dict[str, Any]:
    """What decides the compressed model and its decoding, as plain JSON values.

    Evaluation, tracker, paths, device, batch size and labels are left out; so is what the run does
    not read (the scores of an allocator that needs none, the calibration of a plain SVD, everything
    but the model for the dense run), so that one computation has one id however it was written.
    """
    model = {
        "fingerprint": config.model.fingerprint(),
        "dtype": config.dtype,
        "threads": config.threads,
    }
    if not config.compresses:
        return {"model": model, "decomposition": "none"}
    parts: dict[str, Any] = {
        "model": model,
        "rate": float(config.rate),
        "decomposition": config.decomposition.describe(),
        "grouping": config.grouping.describe(),
        "form": config.form.describe(),
        "allocator": config.allocator.describe(),
        "schedule": config.schedule.describe(),
        "quantization": config.quantization.describe(),
        "runtime": config.runtime.describe(),
    }
    if config.searches:
        parts["search"] = {**config.search.inputs(config.data), "seed": config.seed}
        # The search decides the phases; of the schedule only the direction is read.
        parts["schedule"] = {"name": config.schedule.name, "version": type(config.schedule).VERSION}
    if config.refine.REFINES:
        parts["refine"] = config.refine.describe()
    if config.allocator.SCORED:
        parts["sensitivity"] = config.sensitivity.describe()
    if config.calibrates:
        parts["calibration"] = calibration_inputs(config)
    return parts


def calibration_inputs(config: RunConfig) -> dict[str, Any]:
    """What decides the calibration sequences."""
    return {**config.calibration.inputs(config.data), "seed": config.seed}


def run_id(config: RunConfig) -> str:
    """10 hexadecimal digits of the identity's digest."""
    return jsonfile.digest(identity(config), 10)


def run_folder(config: RunConfig) -> RunFolder:
    """Where the run is kept."""
    return RunFolder.of(
        config.runs_path(),
        model=config.model.label,
        decomposition=config.decomposition.name if config.compresses else "none",
        allocator=config.allocator.name if config.compresses else "none",
        schedule=config.schedule.name if config.compresses else "constant",
        rate=config.rate if config.compresses else 0.0,
        run_id=run_id(config),
    )
