"""Weight-only 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from flrc.quantization.base import Quantization

if TYPE_CHECKING:
    from torch import nn

    from flrc.plans.target import Target


@dataclass
class Int8(Quantization):
    """Factors as 8-bit integers with one scale per rank on either side; activations stay in float.

    A scale belongs to one row of a rank-major factor, so a prefix of the rows takes a prefix of the
    scales, and every schedule runs on quantised factors too. In addition each channel has a
    power-of-two scale (:class:`~flrc.models.layers.int8_rows.Int8Rows`), and the first rank of a
    two-factor layer has 16 bits: it carries the mean of the inputs, so its rounding error is the
    same for every token (SmolLM2-135M, kfac at 30 %: rounding that rank causes nine tenths of the
    factors' int8 loss in perplexity). In the pivoted form the identity is exact. Dense targets get
    one scale per output. Embeddings, norms and the head keep the run's dtype.

    Source: FLRC (arXiv 2510.09332), appendix J: int8 on top of FLRC.
    Differs: the paper does not specify its rounding.
    """

    VERSION: ClassVar[int] = 2

    name: str = "int8"

    def quantize(self, model: nn.Module, targets: Sequence[Target]) -> None:
        """Round every matrix of every target; shared matrices once."""
        from torch.nn import Linear

        from flrc.models.layers.compressed_layers import replace
        from flrc.models.layers.dense_linear import DenseLinear
        from flrc.models.layers.int8_rows import Int8Rows
        from flrc.models.layers.low_rank_linear import LowRankLinear
        from flrc.models.layers.rows import Rows

        made: dict[int, Rows] = {}
        for name in (layer.name for target in targets for layer in target.layers):
            layer = model.get_submodule(name)
            if isinstance(layer, Linear):
                bias = None if layer.bias is None else layer.bias.data
                replace(model, name, DenseLinear(Int8Rows(layer.weight), bias))
                continue
            for part in list(layer.modules()):
                for child, rows in list(part.named_children()):
                    if isinstance(rows, Rows):
                        if id(rows) not in made:
                            ranked = isinstance(part, LowRankLinear) and child != "weight"
                            made[id(rows)] = Int8Rows(rows.dense(), fine=1 if ranked else 0)
                        setattr(part, child, made[id(rows)])
