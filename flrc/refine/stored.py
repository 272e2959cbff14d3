"""Refined factors in the stage cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from torch import Tensor

from flrc.calibration.stored import block_file

if TYPE_CHECKING:
    from flrc.cache import Entry
    from flrc.models.targets import Target
    from flrc.refine.base import Decided, Refinement

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RefinedFactors:
    """Factors that fit one plan, on disk.

    Attributes:
        entry: The cache entry: a safetensors file a block, and ``rescues.json``.
        targets: The layers.
    """

    entry: Entry
    targets: dict[str, Target]

    def factors(self, name: str, rank: int) -> tuple[Tensor, Tensor]:
        """``left_t (rank, d_out)`` and ``right (rank, d_in)``.

        Raises:
            ValueError: If they were refined for another rank.
        """
        path = self.entry.path / block_file(self.targets[name].block)
        with safe_open(path, framework="pt") as file:
            left_t: Tensor = file.get_tensor(f"{name}/left_t")
            right: Tensor = file.get_tensor(f"{name}/right")
        if len(right) != rank:
            raise ValueError(f"{name} was refined for rank {len(right)}, not for {rank}")
        return left_t, right

    def rescues(self) -> dict[str, str]:
        """Numerical rescues by target name."""
        rescues: dict[str, str] = self.entry.read_json("rescues.json")
        return rescues


def refined_factors(refinement: Refinement, decided: Decided, entry: Entry) -> RefinedFactors:
    """Refine all factors, block by block, unless the entry holds them already.

    The caller holds the entry. Factors are stored in the model's dtype, at least float32.

    Raises:
        ValueError: If factors are not finite.
    """
    targets = {target.name: target for target in decided.targets}
    if not entry.done:
        dtype = torch.promote_types(decided.model.dtype, torch.float32)
        rescues: dict[str, str] = {}
        for block, found in refinement.refine(decided):
            tensors: dict[str, Tensor] = {}
            for name, factors in found.items():
                tensors[f"{name}/left_t"] = factors.left_t.to(dtype)
                tensors[f"{name}/right"] = factors.right.to(dtype)
                if factors.rescue is not None:
                    rescues[name] = factors.rescue
            _check_finite(tensors)
            entry.write_tensors(block_file(block), tensors, {})
        for name, what in rescues.items():
            log.warning("rescue: %s, refined: %s", name, what)
        entry.write_json("rescues.json", rescues)
        entry.finish()
    return RefinedFactors(entry, targets)


def _check_finite(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"the refined factors {name} are not finite")
