"""Dtypes that a model can have; imports no torch.

Part of ``modeling_flrc.py``; see :mod:`~flrc.models.checkpoints.standalone_code`.
"""

from __future__ import annotations

DTYPES = ("float32", "bfloat16", "float16", "float64")
