"""One colour, marker and printed name for each method, the same in all plots."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

DENSE = "dense"
DENSE_COLOUR = "0.35"


@dataclass(frozen=True)
class Look:
    """How a method looks in plots.

    Attributes:
        name: Printed name.
        colour: As matplotlib reads it.
        marker: As matplotlib reads it.
        variant: 0 for the method itself; runs of it that differ in a setting count from 1 if the
            plot has the method itself, else from 0. They share the method's colour.
    """

    name: str
    colour: str
    marker: str
    variant: int = 0

    def variant_of(self, name: str, variant: int) -> Look:
        """Another run of this method: from the third on, it has another marker too."""
        place = MARKERS.find(self.marker) + max(0, variant - 1)
        marker = MARKERS[place % len(MARKERS)] if self.marker else ""
        return Look(name, self.colour, marker, variant)

    @property
    def line(self) -> str:
        """Line style."""
        return LINES[self.variant % len(LINES)]

    @property
    def face(self) -> str:
        """Fill of a marker: the colour, or white for a variant."""
        return "white" if self.variant else self.colour

    @property
    def options(self) -> dict[str, Any]:
        """Options of ``Axes.plot``: colour, marker and line."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.line,
            "markerfacecolor": self.face,
            "markeredgecolor": self.colour,
        }

    @property
    def hatch(self) -> str:
        """Pattern of a bar."""
        return HATCHES[self.variant % len(HATCHES)]


LINES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#661100")
"""Distinguishable with a colour vision deficiency too. Source: Okabe and Ito; Tol."""
MARKERS = "osD^vPX<>dph"

METHODS = {
    DENSE: Look("Dense", DENSE_COLOUR, ""),
    "svd": Look("SVD", "#000000", "X"),
    "asvd_uniform": Look("ASVD (uniform)", "#AA4499", "D"),
    "asvd": Look("ASVD", "#CC79A7", "D"),
    "svdllm": Look("SVD-LLM", "#009E73", "s"),
    "svdllm_v2": Look("SVD-LLM V2", "#004D40", "p"),
    "drank": Look("D-Rank", "#661100", "X"),
    "atp": Look("ATP", "#AA7744", "<"),
    "modegpt_alloc": Look("MoDeGPT ranks", "#8C564B", ">"),
    "prunergpt_alloc": Look("PrunerGPT ranks", "#CC6677", "h"),
    "bolaco_alloc": Look("Bolaco ranks", "#44AA99", "d"),
    "asvd_alloc": Look("ASVD ranks", "#6A3D9A", "d"),
    "flra": Look("FLRA", "#56B4E9", "o"),
    "plrd": Look("PLRD", "#5D3A9B", "p"),
    "flrc": Look("FLRC", "#0072B2", "o"),
    "skipcat": Look("SkipCat", "#332288", "P"),
    "lems": Look("LEMS", "#999933", "h"),
    "kfac": Look("KFAC", "#E69F00", "^"),
    "kfac_skip": Look("KFAC-Skip", "#D55E00", "v"),
    "kfac_skipcat": Look("KFAC-SkipCat", "#882255", "P"),
    "flrc_kfac": Look("FLRC-KFAC", "#A50026", "^"),
    "flrc_kfac_skip": Look("FLRC-KFAC-Skip", "#AA4499", "v"),
    "svdllm_healed": Look("SVD-LLM healed", "#006848", "d"),
    "flra_healed": Look("FLRA healed", "#2E86B8", "P"),
    "flrc_healed": Look("FLRC healed", "#003B5C", "P"),
    "kfac_skip_healed": Look("KFAC-Skip healed", "#8F3F00", "<"),
    "flrc_kfac_healed": Look("FLRC-KFAC healed", "#4A0010", ">"),
}
"""Preset -> look. Colours that often stand in one plot differ most; the FLRC methods are blue,
those on KFAC orange to red; a healed one is darker than the method that it starts from."""


def look_of(method: str) -> Look:
    """The look of a method; one without a preset of ours always gets the same, by its name."""
    if method in METHODS:
        return METHODS[method]
    taken = {(look.colour, look.marker) for look in METHODS.values()}
    free = [(c, m) for m in MARKERS for c in COLOURS if (c, m) not in taken]
    return Look(method, *free[zlib.crc32(method.encode()) % len(free)])
