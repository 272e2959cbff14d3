"""Folders that cannot be written to: found before any work, with advice that helps.

Tests may run as root, for whom permissions do not apply. A folder is therefore made unwritable by
being a file, being below a file, or being in a file system of the kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.core.folders import INDUCTOR, check_writable, why_not_writable
from flrc.errors import UserError, explained
from flrc.running.preflight import check_inputs
from flrc.runtime.offload import Offload
from flrc.sweeps import job_isolation

VARIABLES = ("MPLCONFIGDIR", "TRITON_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
NOWHERE = f"{os.devnull}/home"

needs_proc = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc")


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, "")  # restored, whatever the check sets
        monkeypatch.delenv(variable)


def test_a_folder_is_tried(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) is None
    assert why_not_writable(tmp_path / "not" / "there" / "yet") is None
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert why_not_writable(tmp_path / "file") == f"{tmp_path / 'file'} is a file"
    assert why_not_writable(tmp_path / "file" / "below") == f"{tmp_path / 'file'} is a file"
    assert why_not_writable(tmp_path / ("x" * 300)) is not None  # name too long
    with pytest.raises(UserError, match=r"paths\.cache cannot be written to"):
        check_writable("paths.cache", tmp_path / "file")


@needs_proc
def test_permission_bits_do_not_decide(tmp_path: Path) -> None:
    assert os.geteuid() != 0 or os.access("/proc", os.W_OK)
    assert why_not_writable(Path("/proc/cache")) is not None


@needs_proc
@pytest.mark.parametrize("setting", ["paths.runs", "paths.cache"])
def test_the_folders_of_a_run(setting: str, run_config: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=f"{setting} cannot be written to"):
        check_inputs(run_config(f"{setting}=/proc/x"))


@needs_proc
def test_an_unwritable_stage_of_the_cache(run_config: Callable[..., Any], tmp_path: Path) -> None:
    config = run_config("method=svdllm")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "factors").symlink_to("/proc/self")
    with pytest.raises(UserError, match=r"(?s)paths\.cache cannot.*cache/factors"):
        check_inputs(config)


@needs_proc
def test_the_folder_of_offloaded_matrices() -> None:
    runtime = Offload(folder="/proc/offload")
    with pytest.raises(UserError, match=r"runtime\.folder=FOLDER"):
        runtime.check_device(torch.device("cpu"))
    runtime.check_device(torch.device("cuda"))  # pinned memory is used there


def test_libraries_avoid_an_unwritable_home(
    run_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config("method=svdllm")
    monkeypatch.setenv("HOME", NOWHERE)
    check_inputs(config)
    for variable in VARIABLES:
        assert Path(os.environ[variable]).is_relative_to(tmp_path / "cache"), variable
    assert "HF_HOME" not in os.environ  # what was fetched before is read from there


def test_libraries_use_a_writable_home(
    run_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    check_inputs(run_config("method=svdllm"))
    assert not set(VARIABLES) & set(os.environ)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("variable", [*VARIABLES, INDUCTOR])
def test_an_unwritable_folder_given_by_the_user(
    variable: str, run_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rejected; both suggested fixes work."""
    config = run_config("method=svdllm")
    monkeypatch.setenv(variable, NOWHERE)
    with pytest.raises(UserError, match=f"unset {variable}, or {variable}=FOLDER"):
        check_inputs(config)
    monkeypatch.setenv(variable, str(tmp_path / "given"))
    check_inputs(config)
    assert os.environ[variable] == str(tmp_path / "given")
    monkeypatch.delenv(variable)
    check_inputs(config)


def test_the_folder_for_temporary_files(
    run_config: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config("method=svdllm")
    (tmp_path / "file").touch()
    monkeypatch.delenv(INDUCTOR, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(UserError, match="TMPDIR=FOLDER"):
        check_inputs(config)
    with pytest.raises(UserError, match="TMPDIR=FOLDER"):
        job_isolation.run(["model=tiny"], 1, "sweep")

    def none_there() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_there)
    with pytest.raises(UserError, match=r"(?s)no folder for temporary files.*TMPDIR=FOLDER"):
        check_inputs(config)


def test_metrics_write_nothing(tmp_path: Path) -> None:
    """Not even ``evaluate``'s folder for predictions, wherever its home is."""
    script = (
        "from flrc.evaluation.text_metrics import RougeL\n"
        "assert RougeL().compute(predictions=['a b'], references=['a b']) == {'rougeL': [1.0]}\n"
    )
    home = os.environ | {"HOME": NOWHERE, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", script], env=home, check=True)
    assert not list(tmp_path.iterdir())


def test_the_advice_names_what_helps() -> None:
    for error in (
        PermissionError(13, "Permission denied", "/root/.cache/huggingface"),
        NotADirectoryError(20, "Not a directory", NOWHERE),
    ):
        told = str(explained(error))
        assert str(error.filename) in told
        assert all(name in told for name in ("paths.cache", "HF_HOME", "TMPDIR"))
