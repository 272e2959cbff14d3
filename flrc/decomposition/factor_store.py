"""Factors in the stage cache: a safetensors file a block, ``rescues.json`` and ``kept.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flrc.calibration.statistics_store import block_file

if TYPE_CHECKING:
    from flrc.core.cache import Entry
    from flrc.decomposition.factors import Factors
    from flrc.plans.target import Target


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

    def kept(self) -> dict[str, str]:
        """Dead targets by name: ``zero`` or ``dense``."""
        if not self.entry.has(KEPT):  # of an earlier version, which failed where there was one
            return {}
        kept: dict[str, str] = self.entry.read_json(KEPT)
        return kept


KEPT = "kept.json"


@dataclass
class Noted:
    """What is told of targets beside their factors, by name.

    Attributes:
        rescues: What numerical rescues did.
        kept: What dead ones are kept as.
    """

    rescues: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def add(self, other: Noted) -> None:
        """Of further targets."""
        self.rescues |= other.rescues
        self.kept |= other.kept


def stored_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that factors of a model of ``dtype`` are stored in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def store_block(
    entry: Entry, block: int, found: Mapping[str, Factors], dtype: torch.dtype
) -> Noted:
    """Write the factors of one block into ``entry``.

    Args:
        entry: Held by the caller.
        block: Its index.
        found: Factors by target name.
        dtype: Of the model; see :func:`stored_dtype`.

    Returns:
        What is told of the targets.

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
    noted = Noted(
        {name: f.rescue for name, f in found.items() if f.rescue is not None},
        {name: f.kept for name, f in found.items() if f.kept is not None},
    )
    told = {what: json.dumps(by_name) for what, by_name in vars(noted).items()}
    entry.write_tensors(block_file(block), tensors, told)
    return noted


def stored_before(entry: Entry, block: int) -> Noted | None:
    """Of a block that an interrupted run has stored, whole; None if it has to be done."""
    if not entry.has(block_file(block)):
        return None
    try:
        with safe_open(entry.path / block_file(block), framework="pt") as file:
            told = file.metadata()
            noted = Noted(json.loads(told["rescues"]), json.loads(told["kept"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None  # cut off, or of an earlier version
    return noted


def finish_factors(entry: Entry, noted: Noted) -> None:
    """Keep what is told of the targets of all blocks, and mark the entry complete."""
    entry.write_json("rescues.json", noted.rescues)
    if noted.kept:
        entry.write_json(KEPT, noted.kept)
    entry.finish()
