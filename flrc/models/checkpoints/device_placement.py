"""Puts a loaded checkpoint on its devices (part of ``modeling_flrc.py``)."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map
from transformers import PreTrainedModel

ALIGNMENT = 64
"""Bytes to which torch aligns its own allocations on the CPU."""


def placed(model: PreTrainedModel, device_map: Any, max_memory: Any) -> PreTrainedModel:
    """The model on its devices, with ``device_map`` and ``max_memory`` as in ``transformers``."""
    if device_map is None:
        return _aligned(model)
    if not isinstance(device_map, str | dict):
        device_map = {"": device_map}
    if isinstance(device_map, str) and device_map not in ("auto", "balanced", "sequential"):
        return _aligned(model.to(device_map))  # type: ignore[arg-type]
    if isinstance(device_map, str):
        whole = model._no_split_modules or []
        device_map = infer_auto_device_map(model, max_memory, no_split_module_classes=list(whole))
    if set(device_map) == {""}:
        return _aligned(model.to(device_map[""]))  # type: ignore[arg-type]
    dispatched: PreTrainedModel = dispatch_model(model, device_map)
    return dispatched


def _aligned(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its CPU tensors aligned as torch allocates them.

    A tensor mapped from a file can start at any address. An unaligned one may be processed by
    another kernel, so that logits differ in the last digits from those of the saved model.
    """
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None or tensor.device.type != "cpu" or tensor.data_ptr() % ALIGNMENT == 0:
                continue
            key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in copies:
                copies[key] = tensor.data.clone()
            tensor.data = copies[key]
    return model
