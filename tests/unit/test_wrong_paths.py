"""A path without a compressed model: reported at once, without any network access."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

import flrc
from flrc.chat import main as chat
from flrc.core.devices import resolve_device
from flrc.errors import UserError
from flrc.export import main as export
from flrc.models.checkpoints import checkpoint
from flrc.models.checkpoints.huggingface import FlrcForCausalLM

PATHS = ["nowhere", "a/b", "a/b/c", "./a", "../a", "/nowhere/at/all", "~", "file", "", "a\0b"]


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked for over a network")

    (tmp_path / "home").mkdir()
    (tmp_path / "file").write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("flrc.models.checkpoints.huggingface.snapshot_download", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", PATHS)
def test_loading(path: str, capsys: Any) -> None:
    with pytest.raises(UserError, match=r"no such folder|not a compressed model|is a file"):
        flrc.load(path, "cpu")
    if "\0" not in path:
        for main, code in ((chat, 2), (export, 1)):
            assert main([path, *(["dense"] if main is export else [])]) == code
            assert "given:" in capsys.readouterr().err
        assert not Path("dense").exists()


@pytest.mark.parametrize("name", ["record.json", "model.safetensors"])
def test_a_file_is_answered_with_its_folder(name: str) -> None:
    path = Path("folder") / name
    path.parent.mkdir()
    path.touch()
    with pytest.raises(UserError, match="this is a file") as caught:
        flrc.load(path, "cpu")
    assert (caught.value.given, caught.value.fix) == (str(path), "folder")


LIKE_PATHS = ["a/b/c", "./a", "../a", "/nowhere/at/all", "~/x", "file", "", "x y"]


@pytest.mark.parametrize("path", LIKE_PATHS)
def test_what_looks_like_a_path_is_not_sought_in_the_hub(path: str) -> None:
    for given in (path, Path(path or "nowhere")):
        with pytest.raises(UserError, match=r"no such compressed model|not a compressed model"):
            FlrcForCausalLM.from_pretrained(given)


@pytest.mark.parametrize("failure", [OSError("offline"), ValueError("gone")])
def test_a_repository_that_cannot_be_fetched(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, **_: object) -> str:
        assert name == "owner/name"
        raise failure

    monkeypatch.setattr("flrc.models.checkpoints.huggingface.snapshot_download", fail)
    with pytest.raises(UserError, match=f"owner/name .*{failure}"):
        FlrcForCausalLM.from_pretrained("owner/name")


@pytest.mark.parametrize("target", ["file", "file/dense", "full", "dangling", "dangling/dense"])
def test_a_place_for_the_export_is_looked_at_first(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("loaded before the place was looked at")

    monkeypatch.setattr(checkpoint, "load", load)
    monkeypatch.setattr("flrc.library.generation.load", load)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert export(["runs/x", target]) == 1
    assert target.split("/")[0] in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "{}"


@pytest.mark.parametrize("device", [None, "x", "meta", "mps", "cuda", "cuda:7", 1.5])
def test_a_device_that_is_not_there(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="device"):
        flrc.load("file", device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1").index == 1
    with pytest.raises(UserError, match="does not exist") as caught:
        resolve_device("cuda:2")
    assert caught.value.allowed == ["cuda:0", "cuda:1"]


def test_a_config_that_names_no_type(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "flrc"}')
    with pytest.raises(UserError, match="base_model_type: None"):
        AutoConfig.from_pretrained(tmp_path / "model")
