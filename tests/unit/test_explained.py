"""Which errors a user can fix, by the errors that the system itself raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flrc.errors import UserError, explained

WRITE = """
import pathlib, resource, sys, torch
from safetensors.torch import save_file
from flrc.errors import explained
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
path = pathlib.Path(sys.argv[1])
for write in (
    lambda: path.write_bytes(bytes(2000)),
    lambda: save_file({"a": torch.zeros(2000)}, path),
    lambda: torch.zeros(2) + torch.zeros(3),
):
    try:
        write()
    except Exception as error:
        problem = explained(error)
        sys.stdout.write(f"{type(error).__name__}: {problem and problem.problem}\\n")
"""


def test_a_limit_that_the_system_sets(tmp_path: Path) -> None:
    """A limit on file size, since no full disk is available; safetensors raises its own error."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "OSError: the disk is full",
        "SafetensorError: the disk is full",
        "RuntimeError: None",
    ]


def test_the_rest() -> None:
    mistake = UserError("rate")
    assert explained(mistake) is mistake
    wrapped = ValueError("OmegaConf's")
    wrapped.__cause__ = mistake
    assert explained(wrapped) is mistake
    denied = explained(PermissionError(13, "Permission denied", "/root/x"))
    assert denied is not None
    assert "permission denied" in str(denied)
    assert "/root/x" in str(denied)
    for error in (ValueError("(os error)"), KeyError("x"), FileNotFoundError(2, "gone"), OSError()):
        assert explained(error) is None


@pytest.mark.parametrize("number", [28, 27])
def test_the_fix_is_named(number: int) -> None:
    problem = explained(Exception(f"Error while serializing: I/O error: full (os error {number})"))
    assert problem is not None
    assert "computes only what is missing" in str(problem)
