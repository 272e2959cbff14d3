"""The tensors that healing changes, to and from a file."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from flrc.healing.trained import embeddings


def tensors_of(model: nn.Module, within: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a part of the model, by their names in the model.

    Shared ones once; without embeddings and head, which stay as they are.
    """
    inside = {id(t) for t in (*within.parameters(), *within.buffers())}
    inside -= {id(parameter) for parameter in embeddings(model)}
    named = (*model.named_parameters(), *model.named_buffers())
    return {name: tensor.detach() for name, tensor in named if id(tensor) in inside}


def read_tensors(model: nn.Module, path: Path) -> None:
    """Copy the tensors of a file into the model's."""
    named = dict((*model.named_parameters(), *model.named_buffers()))
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            named[name].data.copy_(file.get_tensor(name))
