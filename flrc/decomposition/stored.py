"""Factors in the stage cache: a safetensors file a block, and ``rescues.json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flrc.calibration.stored import block_file

if TYPE_CHECKING:
    from flrc.cache import Entry
    from flrc.decomposition.factors import Factors
    from flrc.models.targets import Target

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredFactors:
    """Factors of targets on disk; what is read is what is asked for.

    Attributes:
        entry: The cache entry.
        targets: The layers.
    """

    entry: Entry
    targets: dict[str, Target]

    def factors(self, name: str, rank: int) -> tuple[Tensor, Tensor]:
        """``left_t (rank, d_out)`` and ``right (rank, d_in)``: only these rows are read."""
        path = self.entry.path / block_file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            return (
                file.get_slice(f"{name}/left_t")[:rank],
                file.get_slice(f"{name}/right")[:rank],
            )

    def spectrum(self, name: str) -> Tensor:
        """``(r,)`` singular values in the decomposition's metric."""
        path = self.entry.path / block_file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            spectrum: Tensor = file.get_tensor(f"{name}/spectrum")
        return spectrum

    def rescues(self) -> dict[str, str]:
        """Numerical rescues by target name."""
        rescues: dict[str, str] = self.entry.read_json("rescues.json")
        return rescues


def stored_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that factors of a model of ``dtype`` are stored in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def store_block(
    entry: Entry, block: int, found: Mapping[str, Factors], dtype: torch.dtype
) -> dict[str, str]:
    """Write the factors of one block into ``entry``.

    Args:
        entry: Held by the caller.
        block: Its index.
        found: Factors by target name.
        dtype: Of the model; see :func:`stored_dtype`.

    Returns:
        Numerical rescues by target name.

    Raises:
        ValueError: If factors are not finite.
    """
    dtype = stored_dtype(dtype)
    tensors: dict[str, Tensor] = {}
    for name, factors in found.items():
        factors = factors.to(dtype)
        if not bool(torch.isfinite(factors.left_t).all() & torch.isfinite(factors.right).all()):
            raise ValueError(f"the factors of {name} are not finite")
        tensors[f"{name}/left_t"] = factors.left_t
        tensors[f"{name}/right"] = factors.right
        tensors[f"{name}/spectrum"] = factors.spectrum
    rescues = {name: f.rescue for name, f in found.items() if f.rescue is not None}
    entry.write_tensors(block_file(block), tensors, {"rescues": json.dumps(rescues)})
    return rescues


def stored_before(entry: Entry, block: int) -> dict[str, str] | None:
    """Rescues of a block that an interrupted run has stored, whole; None if it has to be done."""
    if not entry.has(block_file(block)):
        return None
    try:
        with safe_open(entry.path / block_file(block), framework="pt") as file:
            rescues: dict[str, str] = json.loads(file.metadata()["rescues"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None  # cut off, or of an earlier version
    return rescues


def finish_factors(entry: Entry, rescues: dict[str, str]) -> None:
    """Tell and keep the rescues of all blocks, and mark the entry complete."""
    for name, what in rescues.items():
        log.warning("rescue: %s: %s", name, what)
    entry.write_json("rescues.json", rescues)
    entry.finish()
