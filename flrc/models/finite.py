"""Whether a dense model's weights are numbers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from flrc.errors import UserError
from flrc.models.blocks import decoder_blocks


def finite(tensor: Tensor) -> bool:
    """Whether all its numbers are; in one pass, without a copy."""
    held = tensor.numel() > 0 and not tensor.is_meta
    return not held or all(map(math.isfinite, map(float, tensor.aminmax())))


def check_finite(model: nn.Module) -> None:
    """Raise UserError if a decoder block holds a weight that is infinite or no number.

    Every token goes through the blocks, so what comes behind such a weight means nothing. One pass
    over the weights, which the decomposition reads anyway.

    Args:
        model: The dense model.
    """
    name, blocks = decoder_blocks(model)
    broken = [
        f"{name}.{within}"
        for within, parameter in blocks.named_parameters()
        if not finite(parameter.data)
    ]
    if broken:
        raise UserError(
            f"weights of the model are not finite: {', '.join(broken[:3])}",
            given=f"{len(broken)} of its parameters hold infinite or undefined numbers",
            allowed="finite weights",
            fix="a sound checkpoint; one that was saved in float16 may have overflowed there",
        )
