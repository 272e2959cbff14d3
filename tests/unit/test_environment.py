"""What a record states about the code that produced it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy
import pytest
from tiny import compose

from flrc.core import commit
from flrc.results.records.record import Record
from flrc.running import environment


def test_changed_results_do_not_make_the_code_modified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    files = {name: tmp_path / name for name in ("flrc/x.py", "conf/x.yaml", "experiments/t/r.json")}
    for path in files.values():
        path.parent.mkdir(parents=True)
        path.write_text("1\n", "utf-8")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(commit, "PACKAGE", tmp_path / "flrc")
    files["experiments/t/r.json"].unlink()
    assert commit.git_state()["dirty"] is False
    files["conf/x.yaml"].write_text("2\n", "utf-8")
    assert commit.git_state()["dirty"] is True


def test_records_name_a_slot_that_was_added_later_if_it_is_used() -> None:
    """As before there was one, if it is not."""
    plain, healed = (
        environment.run_block(compose("method=svdllm", f"heal={kind}"))
        for kind in ("none", "distilled")
    )
    assert "heal" not in plain["components"]
    assert "heal" not in plain["config"]
    assert healed["components"]["heal"] == healed["config"]["heal"]["name"] == "distilled"
    assert plain["components"] == {k: v for k, v in healed["components"].items() if k != "heal"}
    assert Record(run=plain).components["heal"] == "none"


def test_versions_of_what_is_installed() -> None:
    found = environment.installed_versions(["numpy", "no-such-package"])
    assert found == {"numpy": numpy.__version__}
