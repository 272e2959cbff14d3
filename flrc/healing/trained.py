"""The parameters that are tuned, in float32 or wider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from flrc.healing.gradient_tuning import GradientTuning
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.layers.compressed_layers import low_rank_layers
from flrc.models.layers.rows import FloatRows


@dataclass(frozen=True)
class Trained:
    """Parameters of a compressed model, and what the optimiser moves in their place.

    A step changes a factor by a thousandth of its entries, less than the spacing of bfloat16: it
    would be lost. Parameters of less than 32 bits have a master copy in float32 that accumulates
    the steps, and are rounded from it; others are their own masters.

    Attributes:
        parameters: By name; shared ones once.
        masters: By the same names.
    """

    parameters: dict[str, nn.Parameter]
    masters: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, within: nn.Module, settings: GradientTuning) -> Trained:
        """What the settings choose of the part ``within`` of the model.

        Args:
            model: Its names are used.
            within: The model, or one of its blocks.
            settings: Whether vectors and dense layers are tuned too.
        """
        chosen = dict(_chosen(model, within, settings))
        masters = {
            name: parameter.data.float() if parameter.itemsize < 4 else parameter.data
            for name, parameter in chosen.items()
        }
        return cls(chosen, masters)

    @property
    def count(self) -> int:
        """Numbers that are tuned."""
        return sum(master.numel() for master in self.masters.values())

    @contextmanager
    def requiring_grad(self) -> Iterator[None]:
        """While active, these parameters and no others require gradients."""
        try:
            for parameter in self.parameters.values():
                parameter.requires_grad_(True)
            yield
        finally:
            for parameter in self.parameters.values():
                parameter.requires_grad_(False)
                parameter.grad = None

    def hand_gradients(self) -> None:
        """Move the parameters' gradients to the masters."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            gradient, parameter.grad = parameter.grad, None
            master.grad = None if gradient is None else gradient.to(master.dtype)

    def round(self) -> None:
        """Set the parameters to their masters, rounded."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master.data_ptr() != parameter.data_ptr():
                parameter.data.copy_(master)

    def restore(self, values: dict[str, Tensor]) -> None:
        """Set masters and parameters to earlier masters."""
        for name, master in self.masters.items():
            master.copy_(values[name])
        self.round()


def _chosen(
    model: nn.Module, within: nn.Module, settings: GradientTuning
) -> Iterator[tuple[str, nn.Parameter]]:
    inside = {id(parameter) for parameter in within.parameters()}
    factors: set[int] = set()
    kept: set[int] = set()
    for layer in low_rank_layers(model).values():
        dense = () if layer.weight is None else layer.weight.parameters()
        kept |= {id(parameter) for parameter in dense}
        rows = (module for module in layer.modules() if isinstance(module, FloatRows))
        factors |= {id(parameter) for row in rows for parameter in row.parameters()}
    outer = {id(p) for p in embeddings(model)}
    # Embeddings of positions, and projections from and to the embeddings, lie outside the blocks.
    blocks = {id(p) for block in decoder_blocks(model)[1] for p in block.parameters()}
    for name, parameter in model.named_parameters():
        if (
            id(parameter) not in inside
            or id(parameter) in outer
            or not parameter.is_floating_point()
        ):
            continue
        factor = id(parameter) in factors and id(parameter) not in kept
        vector = parameter.ndim == 1 and settings.vectors
        matrix = parameter.ndim > 1 and not factor and id(parameter) in blocks and settings.dense
        if parameter.numel() and (factor or vector or matrix):
            yield name, parameter


def embeddings(model: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the embeddings and the head, which stay: both models share the head."""
    from transformers import PreTrainedModel

    assert isinstance(model, PreTrainedModel)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            yield from module.parameters()
