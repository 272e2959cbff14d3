"""Compressed layers as JSON specs, and layers built from them (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flrc.models.layers.dense_linear import DenseLinear
from flrc.models.layers.factored_linear import FactoredLinear
from flrc.models.layers.int8_rows import Int8Rows
from flrc.models.layers.low_rank_linear import LowRankLinear
from flrc.models.layers.pivoted_linear import PivotedLinear
from flrc.models.layers.rows import FloatRows, Rows
from flrc.models.layers.separate_linear import SeparateLinear
from flrc.models.layers.shared_product import SharedProduct

_LAYERS: dict[str, type[nn.Module]] = {
    "low_rank": LowRankLinear,
    "pivoted": PivotedLinear,
    "dense": DenseLinear,
    "separate": SeparateLinear,
}
_ROWS: dict[str, type[FloatRows | Int8Rows]] = {"float": FloatRows, "int8": Int8Rows}


def layer_spec(layer: nn.Module, names: dict[int, str]) -> dict[str, Any]:
    """What :class:`LayerBuilder` needs to build the layer again.

    Args:
        layer: Any of the compressed layers.
        names: Name of each stored tensor by the tensor's identity.
    """
    kind = next(kind for kind, built in _LAYERS.items() if type(layer) is built)
    rows = {
        child: {
            "kind": next(k for k, built in _ROWS.items() if type(matrix) is built),
            "count": matrix.count,
            "width": matrix.width,
            "tensor": names[id(next(matrix.parameters()))].rpartition(".")[0],
            **({"fine": len(matrix.remainder)} if isinstance(matrix, Int8Rows) else {}),
        }
        for child, matrix in layer.named_children()
        if isinstance(matrix, Rows)
    }
    spec: dict[str, Any] = {"kind": kind, "rows": rows, "bias": layer.bias is not None}
    if isinstance(layer, FactoredLinear):
        spec |= {"target": layer.target, "shared": layer.shared is not None}
    if isinstance(layer, PivotedLinear):
        spec["order"] = names[id(layer.order)]
    if isinstance(layer, SeparateLinear):
        spec["layers"] = {rank: layer_spec(part, names) for rank, part in layer.layers.items()}
    return spec


class LayerBuilder:
    """Builds empty layers from their specs; objects that layers share are built once.

    Args:
        dtype: Of the model.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.rows: dict[str, Rows] = {}
        self.orders: dict[str, Tensor] = {}
        self.groups: dict[int, SharedProduct] = {}

    def build(self, spec: dict[str, Any], linear: nn.Linear) -> nn.Module:
        """The layer that replaces a dense layer of the same widths."""
        layer = self._layer(spec, linear)
        widths, expected = ((one.in_features, one.out_features) for one in (layer, linear))
        if widths != expected:
            raise ValueError(f"a layer of widths {widths} replaces one of widths {expected}")
        return layer

    def _layer(self, spec: dict[str, Any], linear: nn.Linear) -> DenseLinear | FactoredLinear:
        rows = {child: self._rows(matrix) for child, matrix in spec["rows"].items()}
        bias = self._empty(linear.out_features) if spec["bias"] else None
        kind = _LAYERS[spec["kind"]]
        if kind is DenseLinear:
            return DenseLinear(rows["weight"], bias)
        weight = rows.get("weight")
        layer: FactoredLinear
        if kind is SeparateLinear:
            parts = {int(rank): self.build(part, linear) for rank, part in spec["layers"].items()}
            layer = SeparateLinear(parts, bias, weight)  # type: ignore[arg-type]
        elif kind is PivotedLinear:
            order = torch.empty(linear.in_features, dtype=torch.int32, device="meta")
            order = self.orders.setdefault(spec["order"], order)
            shared = self._group(spec, rows["coefficients"])
            layer = PivotedLinear(rows["left_t"], rows["coefficients"], order, bias, weight, shared)
        else:
            shared = self._group(spec, rows["right"])
            layer = LowRankLinear(rows["left_t"], rows["right"], bias, weight, shared)
        layer.target = spec["target"]
        return layer

    def _group(self, spec: dict[str, Any], input_rows: Rows) -> SharedProduct | None:
        """The product of the layers that share these rows."""
        if not spec["shared"]:
            return None
        shared = self.groups.setdefault(id(input_rows), SharedProduct(0))
        shared.members += 1
        return shared

    def _rows(self, spec: dict[str, Any]) -> Rows:
        if spec["tensor"] not in self.rows:
            empty = self._empty(spec["count"], spec["width"])
            is_int8 = _ROWS[spec["kind"]] is Int8Rows
            built = Int8Rows(empty, spec["fine"]) if is_int8 else FloatRows(empty)
            self.rows[spec["tensor"]] = built
        return self.rows[spec["tensor"]]

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=self.dtype, device="meta")
