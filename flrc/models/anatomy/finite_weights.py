"""Whether a dense model's weights are finite."""

from __future__ import annotations

import math

from torch import Tensor, nn

from flrc.errors import UserError


def finite(tensor: Tensor) -> bool:
    """Whether all entries are finite; takes one pass and no copy."""
    empty = tensor.numel() == 0 or tensor.is_meta
    return empty or all(map(math.isfinite, map(float, tensor.aminmax())))


def check_finite(model: nn.Module, where: str) -> None:
    """Raise UserError if a weight of the model is NaN or infinite; ``where`` is its name there."""
    broken = {n: p for n, p in model.named_parameters() if not finite(p.data)}
    if broken:
        name, parameter = next(iter(broken.items()))
        raise UserError(
            f"weights of the model are not finite: {', '.join([*broken][:3])}",
            given=f"{where}: {name} holds {int((~parameter.isfinite()).sum())} NaN or infinite "
            f"numbers (parameters with such numbers: {len(broken)})",
            allowed="finite weights",
            fix="an intact checkpoint; one that was saved in float16 may have overflowed",
        )
