"""The steps that a run will take, for what is shown while it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flrc.config import RunConfig


@dataclass(frozen=True)
class Step:
    """One step, of one or several stages that take turns.

    Attributes:
        title: What it does.
        stages: The names of its stages.
    """

    title: str
    stages: tuple[str, ...]


def steps(config: RunConfig, searches: bool) -> list[Step]:
    """The steps that the configuration asks for, in order.

    Args:
        config: The whole configuration.
        searches: Whether the schedule is searched now.
    """
    found = [
        Step("checking the model and the data", ("preflight",)),
        Step("loading the model", ("load",)),
    ]
    if any(evaluation.GENERATES for evaluation in config.evaluation.values()):
        found.append(Step("the dense model's replies", ("dense replies",)))
    if config.compresses:
        found += _compression(config, searches)
    for evaluation in config.evaluation.values():
        for part in evaluation.parts():
            title = evaluation.title(part, config.data)  # also the stage's name
            found.append(Step(title, (title,)))
    return found


def _compression(config: RunConfig, searches: bool) -> list[Step]:
    calibrated = config.decomposition.CALIBRATED
    doing = "calibrating and decomposing" if calibrated else "decomposing"
    found = [Step(doing, ("decomposition", "statistics", "output gradients"))]
    if config.allocator.SCORED:
        found.append(Step("scoring the layers", ("sensitivity",)))
    found.append(Step("allocating ranks", ("allocation", *([] if searches else ["schedule"]))))
    if searches:
        found.append(Step("searching the schedule", ("schedule",)))
    if config.refine.REFINES:
        found.append(Step("refining the factors", ("refinement",)))
    doing = "replacing and healing the layers" if config.heal.HEALS else "replacing the layers"
    found.append(Step(doing, ("surgery", "healing", "quantization")))
    if config.model.save:
        found.append(Step("saving the model", ("save",)))
    return found
