"""JSON files that are written atomically and may contain NaN and infinity.

JSON has no NaN and no infinity. They are written as ``{"non_finite": "nan"}`` (or ``"inf"``,
``"-inf"``) and read back as floats; a plain string ``"NaN"`` could not be distinguished from text.

Part of ``modeling_flrc.py``, where names of several modules share one namespace.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

NON_FINITE = "non_finite"
"""The only key of an object that represents a number that is not finite."""


def encode(value: Any) -> Any:
    """Plain JSON: lists for tuples, objects for non-finite floats; raises TypeError otherwise."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NON_FINITE: str(value)}
    if isinstance(value, list | tuple):
        return [encode(element) for element in value]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a JSON key must be a string, not {key!r}")
        return {key: encode(element) for key, element in value.items()}
    raise TypeError(f"{type(value).__name__} is not a JSON value: {value!r}")


def _decode(values: dict[str, Any]) -> Any:
    return float(values[NON_FINITE]) if values.keys() == {NON_FINITE} else values


def canonical(value: Any) -> str:
    """The same text for equal values: keys sorted, no spaces, non-finite floats as above."""
    return json.dumps(encode(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, digits: int = 10) -> str:
    """The first hexadecimal digits of SHA-256 of the canonical text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:digits]


def write(path: Path, value: Any) -> None:
    """Write atomically: readers, also after a crash, see either the old or the new file."""
    text = json.dumps(encode(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    number, temporary = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path) -> Any:
    """Read a file written by :func:`write`; raises ValueError if it is truncated or not JSON."""
    return json.loads(path.read_text(encoding="utf-8-sig"), object_hook=_decode)
