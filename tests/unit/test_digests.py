"""A file's digest is that of its content, whatever its timestamps are."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flrc.core import digests
from flrc.core.digests import file_digest
from flrc.data.folder import Folder
from flrc.models.sources.local import Local


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace(path: Path, content: bytes) -> None:
    """As editors and downloads do: another file replaces it under its name."""
    other = path.with_name("other")
    other.write_bytes(content)
    os.replace(other, path)


def through_a_link(path: Path, content: bytes) -> None:
    """The name stays a link to the first file, which is written by its other name."""
    first = path.resolve().with_name("first")
    if not path.is_symlink():
        path.rename(first)
        path.symlink_to(first)
    first.write_bytes(content)


CHANGES = [rewrite, replace, through_a_link]


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been there for a long time."""
    monkeypatch.setattr(digests, "TIMESTAMP_RESOLUTION", -(10**18))


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_keeps_size_and_time(
    change: Callable[[Path, bytes], None],
    settled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if settled:
        settle(monkeypatch)
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    old = path.stat()
    for letter in (b"b", b"c"):
        file_digest(path)
        time.sleep(0.02)  # a tick of the file system's clock
        change(path, letter * 100)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        assert path.stat().st_mtime_ns == old.st_mtime_ns
        assert file_digest(path) == hashlib.sha256(letter * 100).hexdigest()


def test_a_file_that_nobody_touches_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    path = tmp_path / "file"
    path.write_bytes(b"a")
    before = file_digest(path)
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("read again"))
    assert file_digest(path) == before


def test_changes_within_one_tick_are_seen(tmp_path: Path) -> None:
    """Many in a row, faster than the clock of the file system."""
    path = tmp_path / "file"
    for number in range(50):
        content = f"{number:04}".encode()
        path.write_bytes(content)
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_models_and_data_follow_the_content(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    weights = folder / "model.safetensors"
    rows = tmp_path / "data" / "wikitext2" / "test.jsonl"
    rows.parent.mkdir(parents=True)
    found = []
    for letter in "ab":
        for path, content in ((weights, letter * 8), (rows, f'{{"text": "{letter}"}}\n')):
            path.write_text(content)
            os.utime(path, ns=(0, 0))
        data = Folder(root=str(tmp_path / "data")).fingerprint("wikitext2", "test")
        found.append((Local(path=str(folder)).fingerprint(), data))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
