"""Factors in the stage cache: a safetensors file a block, ``rescues.json`` and ``kept.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from flrc.calibration.statistics_store import block_file
from flrc.core.cache import Entry
from flrc.decomposition.factors import Factors
from flrc.plans.target import Target


@dataclass(frozen=True)
class StoredFactors:
    """Factors of targets, by name, on disk; only what is asked for is read."""

    entry: Entry
    targets: dict[str, Target]

    def factors(self, name: str, rank: int) -> tuple[Tensor, Tensor]:
        """``left_t (rank, d_out)`` and ``right (rank, d_in)``: only these rows are read."""
        with self._open(name) as file:
            left_t, right = (file.get_slice(f"{name}/{side}") for side in ("left_t", "right"))
            return left_t[:rank], right[:rank]

    def spectrum(self, name: str) -> Tensor:
        """``(r,)`` singular values in the decomposition's metric."""
        with self._open(name) as file:
            spectrum: Tensor = file.get_tensor(f"{name}/spectrum")
        return spectrum

    def rescues(self) -> dict[str, str]:
        """What numerical fallbacks did, by target name."""
        return dict(self.entry.read_json("rescues.json"))

    def kept(self) -> dict[str, str]:
        """Dead targets by name: ``zero`` or ``dense``."""
        # No file: there are none, or an earlier version wrote the entry and failed on dead targets.
        return dict(self.entry.read_json(KEPT)) if self.entry.has(KEPT) else {}

    def _open(self, name: str) -> Any:
        return safe_open(self.entry.path / block_file(self.targets[name].block), framework="pt")


KEPT = "kept.json"


@dataclass
class FactorNotes:
    """What is known about targets besides their factors, by target name.

    Attributes:
        rescues: What numerical fallbacks did.
        kept: How dead targets are kept: ``zero`` or ``dense``.
    """

    rescues: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def add(self, other: FactorNotes) -> None:
        """Add the notes on further targets."""
        self.rescues |= other.rescues
        self.kept |= other.kept


def stored_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that factors of a model of ``dtype`` are stored in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def store_block(
    entry: Entry, block: int, by_target: Mapping[str, Factors], dtype: torch.dtype
) -> FactorNotes:
    """Write one block's factors, by target name, into an entry that the caller holds.

    They are stored in the :func:`stored_dtype` of a model of ``dtype``.

    Raises:
        ValueError: If factors are not finite.
    """
    dtype = stored_dtype(dtype)
    tensors: dict[str, Tensor] = {}
    for name, factors in by_target.items():
        factors = factors.to(dtype)
        if not bool(torch.isfinite(factors.left_t).all() & torch.isfinite(factors.right).all()):
            raise ValueError(f"the factors of {name} are not finite")
        for part in ("left_t", "right", "spectrum"):
            tensors[f"{name}/{part}"] = getattr(factors, part)
    notes = FactorNotes(
        {name: f.rescue for name, f in by_target.items() if f.rescue is not None},
        {name: f.kept for name, f in by_target.items() if f.kept is not None},
    )
    metadata = {kind: json.dumps(values) for kind, values in vars(notes).items()}
    entry.write_tensors(block_file(block), tensors, metadata)
    return notes


def stored_before(entry: Entry, block: int) -> FactorNotes | None:
    """The notes on a block that an interrupted run stored; None if it must be decomposed."""
    if not entry.has(block_file(block)):
        return None
    try:
        with safe_open(entry.path / block_file(block), framework="pt") as file:
            metadata = file.metadata()
            return FactorNotes(json.loads(metadata["rescues"]), json.loads(metadata["kept"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None  # truncated, or from an earlier version


def finish_factors(entry: Entry, notes: FactorNotes) -> None:
    """Write the notes on all targets, and mark the entry complete."""
    entry.write_json("rescues.json", notes.rescues)
    if notes.kept:
        entry.write_json(KEPT, notes.kept)
    entry.finish()
