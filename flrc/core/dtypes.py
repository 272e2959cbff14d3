"""Dtypes that a model can have; imports no torch."""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16", "float64")
