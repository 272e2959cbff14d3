"""Where a model may be saved: only a checkpoint is ever replaced, and one is always there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import KINDS, built

import flrc
from flrc.errors import UserError
from flrc.models.checkpoints.checkpoint import Loaded, save
from flrc.models.checkpoints.save_folder import replacing
from flrc.models.layers.compressed_layers import low_rank_layers

IDS = torch.arange(9)[None]


@pytest.fixture
def loaded(make_model: Callable[..., Any], tokenizer: Any) -> Loaded:
    model = make_model()
    _, plans = built(model, *KINDS[0])
    return Loaded(model, tokenizer, plans)


def everything(folder: Path) -> dict[str, tuple[bool, bytes]]:
    """Every entry below a folder: whether it is a link, and its content."""
    return {
        str(path.relative_to(folder)): (
            path.is_symlink(),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("photos", "the folder holds other files"),
        ("photos/../photos", "the folder holds other files"),
        ("photos/a.jpg", "it is a file"),
        ("link", "it is a link"),
        ("dangling", "it is a link"),
        ("here/..", "it is the current folder, or contains it"),
        ("here", "it is the current folder, or contains it"),
        (".", "it is the current folder, or contains it"),
        ("..", "it is the current folder, or contains it"),
        ("", "it is the current folder, or contains it"),
        ("/", "it is the current folder, or contains it"),
        ("new", r"\.new\.old beside it is in the way"),
        ("photos/a.jpg/model", "cannot be saved there|Not a directory"),
        ("a\0b", "null byte"),
    ],
)
def test_what_is_not_a_checkpoint_is_left_alone(
    target: str, reason: str, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / ".new.old").mkdir()
    (tmp_path / ".new.old" / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path / "here")
    before = everything(tmp_path)
    given = target if target.startswith(("/", ".")) or not target else f"../{target}"
    with pytest.raises(UserError, match=reason):
        save(loaded, given)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["new", "empty", "old", "a/b/../c", "~/model"])
def test_a_new_an_empty_and_an_older_one(
    name: str, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    save(loaded, tmp_path / "old")
    before = {path.name for path in tmp_path.iterdir()}
    target = name if name.startswith("~") else tmp_path / name
    save(loaded, target)
    folder = Path(target).expanduser().resolve()
    expected = loaded.model(input_ids=IDS).logits
    assert torch.equal(flrc.load(folder, "cpu")(input_ids=IDS).logits, expected)
    assert {path.name for path in tmp_path.iterdir()} - before <= {folder.name}


class Stopped(BaseException):
    """Like a kill: nothing is done afterwards, not even cleaning up."""


@pytest.mark.parametrize("stop", range(6))
def test_a_checkpoint_is_there_whenever_it_stops(
    stop: int, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash at any rename or removal: either the older checkpoint or the new one is available."""
    folder, aside = tmp_path / "model", tmp_path / ".model.old"
    save(loaded, folder)
    calls = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > stop:
                raise Stopped
            return function(*arguments, **options)

        return counted

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counting(Path.rename))
        patched.setattr(shutil, "rmtree", counting(shutil.rmtree))
        try:
            save(loaded, folder)
        except Stopped:
            pass
        else:
            assert stop >= 4
    there = folder if folder.exists() else aside
    assert low_rank_layers(flrc.load(there, "cpu"))
    save(loaded, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_was_set_aside_is_brought_back(loaded: Loaded, tmp_path: Path) -> None:
    """As a crash between the renames leaves it; the next attempt fails too."""
    save(loaded, tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(ValueError, match="while it is written"), replacing(tmp_path / "model"):
        raise ValueError("while it is written")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert low_rank_layers(flrc.load(tmp_path / "model", "cpu"))


def test_a_run_refuses_before_it_works(run_config: Callable[..., Any], tmp_path: Path) -> None:
    from flrc.pipeline import run
    from flrc.running.identity import run_folder

    config = run_config("method=svdllm", "rate=0.3", "model.save=true")
    model = run_folder(config).model
    model.mkdir(parents=True)
    (model / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="the folder holds other files"):
        run(config)
    assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(mask: int, loaded: Loaded, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        save(loaded, tmp_path / "model")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert set(modes.values()) == {0o666 & ~mask}, modes
