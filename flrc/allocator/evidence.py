"""What an allocator may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from flrc.allocator.probe import Probe


def _none(_name: str) -> Tensor:
    raise LookupError("no spectra were given; the allocator must set SPECTRAL = True")


def _no_probe(_samples: int | None) -> Probe:
    raise LookupError("no probe was given; the allocator must set PROBES = True")


@dataclass(frozen=True)
class Evidence:
    """Scores, spectra and measurements; spectra and measurements are made when asked for.

    Attributes:
        scores: Score by target name, finite and at least 0; empty unless the allocator is
            ``SCORED``.
        spectrum: Singular values ``(r,)`` of a target, in the decomposition's own metric and
            non-increasing: the squared loss of rank ``k`` is ``sum(spectrum[k:] ** 2)``. For
            ``SPECTRAL`` allocators.
        probe: Measures the model with some targets truncated, on the given number of
            calibration sequences (None: all). For allocators with ``PROBES``.
        kept: Dead targets by name: ``zero`` or ``dense``, as :class:`~flrc.decomposition.factors.
            Factors` has it. Their ranks are settled before: only ``replay`` meets them.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    spectrum: Callable[[str], Tensor] = _none
    probe: Callable[[int | None], Probe] = _no_probe
    kept: Mapping[str, str] = field(default_factory=dict)
