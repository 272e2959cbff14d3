"""What ``flrc.load`` and ``flrc.compress`` return: a model of transformers that knows its plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flrc.errors import UserError
from flrc.models.checkpoints.checkpoint import Loaded
from flrc.models.checkpoints.huggingface import Scheduled, scheduled_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from flrc.plans.run_plans import Plans
    from flrc.results.records.record import Record

    class CompressedModel(Scheduled, PreTrainedModel):  # type: ignore[misc]
        """The static type of a compressed model.

        An instance of the base's own class (``LlamaForCausalLM`` ...) mixed with
        :class:`~flrc.models.checkpoints.huggingface.Scheduled`: ``generate`` follows the schedule,
        and a call runs one forward step under the constant plan.

        Attributes:
            flrc: What belongs to it.
            tokenizer: Its tokenizer; the same as ``flrc.tokenizer``.
            plans: Its plans; the same as ``flrc.plans``.
        """

        flrc: Companions
        tokenizer: PreTrainedTokenizerBase
        plans: Plans


@dataclass(frozen=True)
class Companions:
    """What belongs to a compressed model.

    Attributes:
        tokenizer: Its tokenizer.
        plans: The constant plan, and those of the schedule's phases.
        record: The run that made it; None for a checkpoint that was saved without it.
    """

    tokenizer: PreTrainedTokenizerBase
    plans: Plans
    record: Record | None


def as_model(loaded: Loaded, record: Record | None) -> CompressedModel:
    """The model itself, which then generates under its schedule and has its companions.

    Its class becomes a subclass of its own class; the object stays the same.
    """
    model: Any = loaded.model
    if not isinstance(model, Scheduled):
        kind = type(model)
        model.__class__ = scheduled_class(kind, kind.config_class)  # type: ignore[arg-type]
    model.flrc = Companions(loaded.tokenizer, loaded.plans, record)
    model.tokenizer, model.plans = loaded.tokenizer, loaded.plans
    made: CompressedModel = model
    return made


def loaded_of(model: CompressedModel | Loaded) -> Loaded:
    """A compressed model with its tokenizer and plans, as the stages of a run pass it on.

    Raises:
        UserError: If it is not a compressed model of flrc, or was loaded without its tokenizer.
    """
    if isinstance(model, Loaded):
        return model
    companions = getattr(model, "flrc", None)
    if isinstance(companions, Companions):
        return Loaded(model, companions.tokenizer, companions.plans)
    raise UserError(
        "this is not a compressed model with its tokenizer",
        given=type(model).__name__,
        allowed="what flrc.load or flrc.compress returns",
        fix="flrc.load(FOLDER)",
    )
