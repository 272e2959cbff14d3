"""How calibration sequences are cut into parts, of which the dense model generates others."""

from __future__ import annotations

BATCH = 64
"""Sequences that are generated together; part of what decides them."""


def part_lengths(length: int, parts: int) -> list[int]:
    """Tokens of the parts of a sequence, which differ by 1 at most.

    No part has less than 2 tokens, so a short sequence has fewer parts.
    """
    parts = max(1, min(parts, length // 2))
    return [length * (i + 1) // parts - length * i // parts for i in range(parts)]
