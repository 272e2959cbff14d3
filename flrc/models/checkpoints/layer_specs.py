"""How a compressed model's layers are told in JSON, and built again from that."""

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


def described(layer: nn.Module, names: dict[int, str]) -> dict[str, Any]:
    """How a layer is built again."""
    kind = next(kind for kind, built in _LAYERS.items() if type(layer) is built)
    rows = {
        child: {
            "kind": next(k for k, built in _ROWS.items() if type(held) is built),
            "count": held.count,
            "width": held.width,
            "tensor": names[id(next(held.parameters()))].rpartition(".")[0],
            **({"fine": len(held.remainder)} if isinstance(held, Int8Rows) else {}),
        }
        for child, held in layer.named_children()
        if isinstance(held, Rows)
    }
    found: dict[str, Any] = {"kind": kind, "rows": rows, "bias": layer.bias is not None}
    if isinstance(layer, FactoredLinear):
        found |= {"target": layer.target, "shared": layer.shared is not None}
    if isinstance(layer, PivotedLinear):
        found["order"] = names[id(layer.order)]
    if isinstance(layer, SeparateLinear):
        found["layers"] = {rank: described(one, names) for rank, one in layer.layers.items()}
    return found


class Built:
    """Empty layers of the right kinds and sizes; what layers share is made once."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.rows: dict[str, Rows] = {}
        self.orders: dict[str, Tensor] = {}
        self.groups: dict[int, SharedProduct] = {}

    def layer(self, layer: dict[str, Any], linear: nn.Linear) -> nn.Module:
        """In place of a dense layer of the same widths."""
        built = self._layer(layer, linear)
        widths, wanted = ((one.in_features, one.out_features) for one in (built, linear))
        if widths != wanted:
            raise ValueError(f"a layer of widths {widths} stands for one of {wanted}")
        return built

    def _layer(self, layer: dict[str, Any], linear: nn.Linear) -> DenseLinear | FactoredLinear:
        rows = {child: self._rows(held) for child, held in layer["rows"].items()}
        bias = self._empty(linear.out_features) if layer["bias"] else None
        kind = _LAYERS[layer["kind"]]
        if kind is DenseLinear:
            return DenseLinear(rows["weight"], bias)
        weight = rows.get("weight")
        built: FactoredLinear
        if kind is SeparateLinear:
            parts = {int(rank): self.layer(one, linear) for rank, one in layer["layers"].items()}
            built = SeparateLinear(parts, bias, weight)  # type: ignore[arg-type]
        elif kind is PivotedLinear:
            order = torch.empty(linear.in_features, dtype=torch.int32, device="meta")
            order = self.orders.setdefault(layer["order"], order)
            shared = self._group(layer, rows["coefficients"])
            built = PivotedLinear(rows["left_t"], rows["coefficients"], order, bias, weight, shared)
        else:
            shared = self._group(layer, rows["right"])
            built = LowRankLinear(rows["left_t"], rows["right"], bias, weight, shared)
        built.target = layer["target"]
        return built

    def _group(self, layer: dict[str, Any], input_rows: Rows) -> SharedProduct | None:
        """Of the layers that hold the same rows on the input side."""
        if not layer["shared"]:
            return None
        shared = self.groups.setdefault(id(input_rows), SharedProduct(0))
        shared.members += 1
        return shared

    def _rows(self, held: dict[str, Any]) -> Rows:
        if held["tensor"] not in self.rows:
            empty = self._empty(held["count"], held["width"])
            kind = _ROWS[held["kind"]]
            self.rows[held["tensor"]] = (
                Int8Rows(empty, held["fine"]) if kind is Int8Rows else FloatRows(empty)
            )
        return self.rows[held["tensor"]]

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=self.dtype, device="meta")
