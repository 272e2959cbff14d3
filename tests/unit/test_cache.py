"""The stage cache: interrupted entries, locks, and which entries are evicted."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flrc.core.cache import DONE, RECENT, Entry, StageCache
from flrc.errors import UserError


def filled(cache: StageCache, name: str, size: int, age: float) -> Entry:
    """An entry of a given size in bytes, used ``age`` seconds ago."""
    entry = cache.entry("stage", {"name": name})
    with entry.lock():
        (entry.path / "data").write_bytes(b"x" * size)
        entry.finish()
    used = time.time() - age
    os.utime(entry.path / DONE, (used, used))
    return entry


def there(entry: Entry) -> bool:
    """Whether the entry is complete, without marking it as used."""
    return (entry.path / DONE).is_file()


def test_same_inputs_same_entry(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 10)
    one = cache.entry("factors", {"a": 1, "b": [1.5]})
    assert one.path == cache.entry("factors", {"b": (1.5,), "a": 1}).path
    assert one.path != cache.entry("factors", {"a": 2, "b": [1.5]}).path
    assert one.path != cache.entry("statistics", {"a": 1, "b": [1.5]}).path
    assert not one.path.exists()


def test_an_interrupted_entry_counts_as_missing(tmp_path: Path) -> None:
    entry = StageCache(tmp_path, 10).entry("factors", {"a": 1})
    assert not entry.done

    def interrupted() -> None:
        with entry.lock():
            entry.write_tensors("w.safetensors", {"w": torch.ones(2)}, {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert entry.has("w.safetensors")
    assert not entry.done
    with entry.lock():  # the lock was released
        entry.finish()
    assert entry.done
    assert entry.read_json(DONE)["inputs"] == {"a": 1}


@pytest.mark.parametrize("how", ["shorter", "gone", "longer", "marker"])
def test_a_damaged_entry_counts_as_missing(how: str, tmp_path: Path) -> None:
    entry = StageCache(tmp_path, 10).entry("factors", {"a": 1})
    with entry.lock():
        entry.write_tensors("w.safetensors", {"w": torch.ones(2)}, {})
        entry.write_json("x.json", [1])
        entry.finish()
    assert entry.done
    path = entry.path / "w.safetensors"
    whole = path.read_bytes()
    if how == "marker":
        (entry.path / DONE).write_text('{"inp')
        assert not entry.done
        return
    path.unlink()
    if how != "gone":
        path.write_bytes(whole[:-1] if how == "shorter" else whole + b" ")
    # An entry can grow after the marker was written: probes are kept as they come.
    assert entry.done == (how == "longer")


def test_tensors_and_json_come_back(tmp_path: Path) -> None:
    entry = StageCache(tmp_path, 10).entry("factors", {})
    with entry.lock():
        value = torch.randn(4, 3).T  # not contiguous
        entry.write_tensors("w.safetensors", {"w": value}, {"tokens": "7"})
        entry.write_json("x.json", {"nan": float("nan")})
    assert torch.equal(load_file(entry.path / "w.safetensors")["w"], value)
    assert entry.read_json("x.json")["nan"] != entry.read_json("x.json")["nan"]
    assert sorted(p.name for p in entry.path.iterdir()) == ["w.safetensors", "x.json"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = StageCache(tmp_path, 10).entry("factors", {})
    with entry.lock():

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(OSError, match="disk full"):
            entry.write_tensors("w.safetensors", {"w": torch.ones(2)}, {})
    assert list(entry.path.iterdir()) == []


def test_the_lock_is_exclusive(tmp_path: Path) -> None:
    cache, order = StageCache(tmp_path, 10), []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with cache.entry("factors", {}).lock():
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with cache.entry("factors", {}).lock():
        inside.set()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_least_recently_used_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 2500)
    old, older, new = (
        filled(cache, name, 1000, age)
        for name, age in (("b", 3 * RECENT), ("a", 9 * RECENT), ("c", 2 * RECENT))
    )
    cache.trim()
    assert not there(older)
    assert not older.path.exists()
    assert there(old)
    assert there(new)


def test_using_an_entry_keeps_it(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 1500)
    first, second = (filled(cache, n, 1000, a) for n, a in (("a", 9 * RECENT), ("b", 2 * RECENT)))
    assert first.done  # is used now
    cache.trim()
    assert there(first)
    assert not there(second)


def test_what_was_used_today_is_kept_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = StageCache(tmp_path, 500)
    entries = [filled(cache, name, 1000, 60) for name in "ab"]
    with caplog.at_level(logging.WARNING):
        cache.trim()
    assert all(there(entry) for entry in entries)
    assert "used during the last day" in caplog.text


def test_an_entry_in_use_is_not_evicted(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 100)
    used, free = (filled(cache, n, 1000, a) for n, a in (("a", 9 * RECENT), ("b", 8 * RECENT)))
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with used.lock():
            ready.set()
            over.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait(10)
    cache.trim()
    over.set()
    thread.join(10)
    assert there(used)
    assert not there(free)


def test_below_the_limit_nothing_goes(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, 10_000)
    entry = filled(cache, "a", 1000, 9 * RECENT)
    cache.trim()
    assert there(entry)


def test_a_full_disk_is_reported_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 0, 2 * 10**9))
    cache = StageCache(tmp_path / "new", 10)
    cache.require_space(10**9, "factors")
    with pytest.raises(UserError, match="not enough free disk") as caught:
        cache.require_space(3 * 10**9, "factors of tiny")
    assert "2.00 GB free" in str(caught.value)
    assert "3.00 GB" in str(caught.value)
