"""Dtypes that a model can have; imports no torch (part of ``modeling_flrc.py``)."""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16", "float64")
