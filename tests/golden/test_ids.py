"""Ids and cache keys that only a meant change may move.

To renew them: ``python tests/golden/ids_of_today.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ids_of_today import (
    DATA,
    EXPERIMENTS,
    FILE,
    NOT_COMPOSED,
    OPTIONS,
    RENAMED,
    cache_keys,
    committed_ids,
    configurations,
    run_ids,
)

from flrc.config import GROUPS, components

FROZEN: dict[str, dict[str, Any]] = json.loads(FILE.read_text("utf-8"))
DECIDING = sorted(GROUPS.keys() - {"model", "data", "evaluation", "tracker"})
"""Groups whose options change a compressed model."""


@pytest.fixture(scope="module")
def configs() -> dict[str, Any]:
    return configurations()


def test_run_ids(configs: dict[str, Any]) -> None:
    assert run_ids(configs) == FROZEN["runs"]


def test_cache_keys(configs: dict[str, Any], tmp_path: Path) -> None:
    assert cache_keys(configs, tmp_path) == FROZEN["keys"]


@pytest.mark.parametrize("group", DECIDING)
def test_every_option_is_frozen(group: str, configs: dict[str, Any]) -> None:
    chosen = {getattr(config, group).name for config in configs.values()}
    assert chosen >= set(components(group))


def test_options_have_ids_of_their_own() -> None:
    ids = [FROZEN["runs"][name] for name in OPTIONS]
    assert len(set(ids)) == len(ids)


def test_committed_records() -> None:
    if not DATA.is_dir():
        pytest.skip("the ids of committed records contain digests of ../shared/data")
    assert committed_ids() == FROZEN["committed"]


def test_every_committed_record_is_frozen() -> None:
    folders = {str(p.parent.relative_to(EXPERIMENTS)) for p in EXPERIMENTS.rglob("record.json")}
    assert folders == FROZEN["committed"].keys() | NOT_COMPOSED.keys()
    assert not FROZEN["committed"].keys() & NOT_COMPOSED.keys()


def test_committed_records_have_kept_their_ids() -> None:
    others = {
        folder
        for folder, frozen in FROZEN["committed"].items()
        if json.loads((EXPERIMENTS / folder / "record.json").read_text("utf-8"))["run"]["id"]
        != frozen
    }
    assert others == RENAMED
