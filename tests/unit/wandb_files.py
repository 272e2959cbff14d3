"""W&B's offline files, read back, and a process without an account."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def no_account(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))


def chunks(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log: 32 KiB blocks of (crc32 u32, length u16, type u8, bytes).

    W&B puts a header of 7 bytes before the first record of the first block. Types: 1 whole,
    2 first, 3 middle, 4 last part.
    """
    block, at, parts = 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if kind == 0 or at + 7 + length > len(data):  # nothing more, or not yet
            break
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def whole(path: Path, seconds: float = 20.0) -> list[Any]:
    """The records of a ``.wandb`` file; W&B's process ends it a little after ``finish`` returns."""
    from wandb.proto import wandb_internal_pb2

    until = time.monotonic() + seconds
    while True:
        messages = []
        for chunk in chunks(path.read_bytes()):
            messages.append(wandb_internal_pb2.Record())
            messages[-1].ParseFromString(chunk)
        if any(message.WhichOneof("record_type") == "exit" for message in messages):
            return messages
        assert time.monotonic() < until, f"{path} is not complete"
        time.sleep(0.05)


def read_back(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The run, its configuration and its summary as they stand in a ``.wandb`` file."""
    run, config, summary = None, {}, {}
    for message in whole(path):
        kind = message.WhichOneof("record_type")
        if kind == "run":
            run = message.run
            for item in message.run.config.update:
                config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "summary":
            for item in message.summary.update:
                summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return run, config, summary


def tables(path: Path) -> dict[str, dict[str, Any]]:
    """Columns and data of the tables beside a ``.wandb`` file, by key."""
    summary = read_back(path)[2]
    keys = [k.removesuffix("/_type") for k, value in summary.items() if value == "table-file"]
    files = {key: path.parent / "files" / summary[f"{key}/path"] for key in keys}
    return {key: json.loads(file.read_text("utf-8")) for key, file in files.items()}
