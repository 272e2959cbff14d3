"""Runs a model whose targets do not fit into the memory limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from flrc.core.folders import check_writable
from flrc.errors import UserError
from flrc.runtime.base import Runtime

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flrc.models.layers.rows import Rows
    from flrc.plans.target import Target

UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
BUFFERS = (2, 6)
"""Minimum and maximum number of buffers, each for one streamed matrix."""


@dataclass
class Offload(Runtime):
    """Streams the targets ahead of use, and of these only the active ranks.

    With a GPU, matrices are in pinned host memory and copied on a separate CUDA stream; without
    one, they are on disk, and threads read them bypassing the page cache. Embeddings, norms and the
    head stay in memory, and so do as many matrices as fit into the budget beside the buffers.

    accelerate's hooks are not used: they move whole parameters, even if a call needs only a part,
    one module at a time and without prefetching.

    Source: FLRC (arXiv 2510.09332), appendix I, table 12.

    Attributes:
        budget: Memory for all resident weights: a share of the dense model's bytes (``0.25``), or a
            size (``8GB``, ``500MiB``).
        folder: Folder of the offloaded matrices if there is no GPU; their file is deleted when the
            run ends.
        gb_per_second: Limit of the transfers in 10^9 bytes per second, to emulate a slower link or
            to keep its speed constant across methods; None for no limit.
    """

    CONSUMES: ClassVar[bool] = True

    name: str = "offload"
    budget: str = "0.25"
    folder: str = ".cache/offload"
    gb_per_second: float | None = None

    def check(self) -> None:
        """Check that the budget is valid, and that the bandwidth is above 0."""
        self._bytes(10**9)
        self.require(
            self.gb_per_second is None or self.gb_per_second > 0,
            "gb_per_second",
            "above 0, or null for no limit",
        )

    def _bytes(self, dense: int) -> int:
        """The budget in bytes, for a dense model of this size."""
        text = str(self.budget).strip()
        match = re.fullmatch(r"([0-9.]+)\s*(MB|GB|MiB|GiB)?", text)
        value = float(match[1]) if match and match[1].count(".") < 2 and match[1] != "." else 0.0
        meant = _meant(text)
        self.require(
            match is not None and value > 0 and (match[2] is not None or value <= 1),
            "budget",
            f"a share of the dense model in (0, 1], or a size in {', '.join(UNITS)}, such as 8GB",
            fix=None if meant is None else f"runtime.budget={meant}",
        )
        assert match is not None
        return int(value * (UNITS[match[2]] if match[2] else dense))

    def check_device(self, device: torch.device) -> None:
        """See :class:`~flrc.runtime.base.Runtime`: without a GPU, the folder must be writable."""
        if device.type != "cuda":
            check_writable("runtime.folder", Path(self.folder).expanduser().resolve())

    def check_memory(self, dense: int, stays: int) -> None:
        """See :class:`~flrc.runtime.base.Runtime`: all that is not a target has to fit.

        The size of the buffers is known only once there are ranks.
        """
        budget = self._bytes(dense)
        if budget <= stays:
            raise UserError(
                "the budget is too small for what must stay in memory: embeddings, norms and head",
                given=f"runtime.budget={self.budget}, {budget / 1e6:.0f} MB",
                allowed=f"more than {stays / 1e6:.0f} MB ({stays / dense:.3f} of dense)",
                fix=f"runtime.budget={-(-(stays + (dense - stays) // 10) // 10**6)}MB",
            )

    @contextmanager
    def running(
        self, model: nn.Module, targets: Sequence[Target], dense_bytes: int
    ) -> Iterator[None]:
        """See :class:`~flrc.runtime.base.Runtime`; UserError if not even two matrices fit."""
        from flrc.models.anatomy.placement import settle
        from flrc.runtime.weight_sources import DiskSource, PinnedSource, RateLimited
        from flrc.runtime.weight_streaming import Source, Streamed, Streamer

        model.eval()
        matrices = _matrices(model, targets)
        moving, buffers = self._moving(model, list(matrices), dense_bytes)
        if not moving:
            settle(model)
            yield
            return
        device = next(model.parameters()).device  # the embedding's: blocks may be on the host
        held = [rows.values.data for rows in moving if rows.values is not None]
        source: Source
        if device.type == "cuda":
            source = PinnedSource(held, device, buffers)
        else:
            source = DiskSource(held, Path(self.folder).expanduser(), buffers)
        if self.gb_per_second is not None:
            source = RateLimited(source, self.gb_per_second * 1e9)
        del held
        streamer = Streamer(source, [matrices[rows] for rows in moving], buffers)
        for number, rows in enumerate(moving):
            rows.stream, rows.values = Streamed(streamer, number, rows.count), None
        settle(model)  # the rest of the model
        try:
            yield
        finally:
            streamer.close()

    def _moving(
        self, model: nn.Module, matrices: Sequence[Rows], dense_bytes: int
    ) -> tuple[list[Rows], int]:
        from flrc.models.layers.sizes import stored_bytes

        # The scales of int8 rows are not included: they stay in memory.
        sizes = {rows: rows.values.nbytes for rows in matrices if rows.values is not None}
        fixed = stored_bytes(model, [])["model_stored"] - sum(sizes.values())
        budget = self._bytes(dense_bytes)
        left = budget - fixed
        if sum(sizes.values()) <= left:
            return [], 0
        largest = max(sizes.values())
        fewest, most = BUFFERS
        if left < fewest * largest:
            needed = fixed + fewest * largest
            raise UserError(
                "the budget is too small for what must stay in memory and two matrices",
                given=f"runtime.budget={self.budget}, {budget / 1e6:.0f} MB",
                allowed=f"at least {needed / 1e6:.0f} MB ({needed / dense_bytes:.3f} of dense)",
                fix=f"runtime.budget={-(-needed // 10**6)}MB",
            )
        buffers = min(most, left // largest)
        left -= buffers * largest
        moving = []
        for rows in matrices:
            if sizes[rows] <= left:
                left -= sizes[rows]
            else:
                moving.append(rows)
        return moving, buffers


def _meant(text: str) -> str | None:
    """The budget that a percentage or a misspelled unit stands for; None if that is not clear."""
    match = re.fullmatch(r"(\d*\.?\d+)\s*(%|[a-z]+)", text, re.IGNORECASE)
    if match is None or (value := float(match[1])) <= 0:
        return None
    if match[2] == "%":
        return f"{value / 100:g}" if value <= 100 else None
    spellings = (match[2].casefold(), f"{match[2]}b".casefold())
    unit = next((each for each in UNITS if each.casefold() in spellings), None)
    return None if unit is None else f"{match[1]}{unit}"


def _matrices(model: nn.Module, targets: Sequence[Target]) -> dict[Rows, Callable[[], int]]:
    """All matrices of the targets in the order of use, each with a function for its active rows."""
    from torch.nn import Linear

    from flrc.models.layers.compressed_layers import replace
    from flrc.models.layers.dense_linear import DenseLinear
    from flrc.models.layers.factored_linear import FactoredLinear
    from flrc.models.layers.rows import FloatRows

    matrices: dict[Rows, Callable[[], int]] = {}
    for name in (layer.name for target in targets for layer in target.layers):
        layer = model.get_submodule(name)
        if isinstance(layer, Linear):
            bias = None if layer.bias is None else layer.bias.data
            layer = DenseLinear(FloatRows(layer.weight.data), bias)
            replace(model, name, layer)
        if isinstance(layer, DenseLinear):
            matrices[layer.weight] = partial(getattr, layer.weight, "count")
        elif isinstance(layer, FactoredLinear):
            for rows, count in layer.matrices():
                matrices.setdefault(rows, count)
    return matrices
