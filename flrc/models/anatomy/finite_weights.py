"""Whether a dense model's weights are numbers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from flrc.errors import UserError


def finite(tensor: Tensor) -> bool:
    """Whether all its numbers are; in one pass, without a copy."""
    held = tensor.numel() > 0 and not tensor.is_meta
    return not held or all(map(math.isfinite, map(float, tensor.aminmax())))


def check_finite(model: nn.Module, where: str) -> None:
    """Raise UserError if the model holds a weight that is infinite or no number.

    What comes behind such a weight means nothing.

    Args:
        model: The dense model.
        where: What it is called in messages.
    """
    broken = {
        name: parameter
        for name, parameter in model.named_parameters()
        if not finite(parameter.data)
    }
    if broken:
        name, parameter = next(iter(broken.items()))
        raise UserError(
            f"weights of the model are not finite: {', '.join([*broken][:3])}",
            given=f"{where}: {name} holds {int((~parameter.isfinite()).sum())} NaN or infinite "
            f"numbers ({len(broken)} parameters hold some)",
            allowed="finite weights",
            fix="a sound checkpoint; one that was saved in float16 may have overflowed there",
        )
