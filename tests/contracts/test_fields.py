"""A field added to a component changes no id, cache key or record while it has its default."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from options import ALL, cls
from tiny import write_data

from flrc.allocator.uniform import Uniform
from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.calibration.text import Text
from flrc.config import Method, Paths, RunConfig
from flrc.core.component import added, plain
from flrc.data.folder import Folder
from flrc.library.given_sequences import GivenSequences
from flrc.library.in_memory_model import InMemoryModel
from flrc.running.identity import run_id

FROZEN: dict[str, list[str]] = json.loads(Path(__file__).with_name("fields.json").read_text())
"""The fields that are always part of a description, by class; see CONTRIBUTING."""
SCHEMAS: dict[str, type] = {
    **{f"{group}/{name}": cls(group, name) for group, name in ALL},
    "calibration/given": GivenSequences,
    "model/in_memory": InMemoryModel,
    **{c.__name__: c for c in (RunConfig, Paths, Method, OutputGradientSettings)},
}


def check(schema: type, frozen: list[str]) -> None:
    """No field is gone, and one that is new is marked."""
    always = [f.name for f in fields(schema) if "added" not in f.metadata]
    new, gone = set(always) - set(frozen), set(frozen) - set(always)
    assert not new, (
        f"{schema.__name__} has new fields, {sorted(new)}, which change the id of every run that "
        "uses it: give each its default as added(DEFAULT), from flrc.core.component"
    )
    assert not gone, f"{schema.__name__} has lost {sorted(gone)}: this changes the id of its runs"


@pytest.mark.parametrize("key", FROZEN)
def test_new_fields_are_marked(key: str) -> None:
    check(SCHEMAS[key], FROZEN[key])


@dataclass
class Grown(Uniform):
    """A component that got two fields."""

    share: float = added(0.1 + 0.2)
    kinds: list[str] = added(["q", "k"])


@dataclass
class Unmarked(Uniform):
    """A component that got a field without a mark."""

    share: float = 0.3


def test_a_field_without_a_mark_is_found() -> None:
    frozen = FROZEN["allocator/uniform"]
    check(Grown, frozen)
    with pytest.raises(AssertionError, match=r"\['share'\].*as added\(DEFAULT\)"):
        check(Unmarked, frozen)
    with pytest.raises(AssertionError, match="has lost"):
        check(Uniform, [*frozen, "share"])


def test_a_description_lacks_an_added_field_at_its_default() -> None:
    assert Grown().describe() == Uniform().describe() != Unmarked().describe()
    assert Grown(share=0.1 + 0.2, kinds=["q", "k"]).describe() == Uniform().describe()
    assert Grown(share=0.5).describe() == {**Uniform().describe(), "share": 0.5}
    assert Grown(kinds=[]).describe() == {**Uniform().describe(), "kinds": []}
    assert Grown().kinds is not Grown().kinds
    assert OmegaConf.to_object(OmegaConf.structured(Grown)) == Grown()


def test_a_version_still_counts() -> None:
    class Changed(Grown):
        VERSION = Grown.VERSION + 1

    assert Changed().describe() != Grown().describe()


def test_inputs_follow(tmp_path: Path) -> None:
    @dataclass
    class GrownText(Text):
        stride: int | None = added(None)

    data = Folder(root=str(write_data(tmp_path)))
    assert GrownText().inputs(data) == Text().inputs(data)
    assert GrownText(stride=7).inputs(data) == {**Text().inputs(data), "stride": 7}


def test_ids_and_records_follow(run_config: Callable[..., RunConfig]) -> None:
    base = run_config("method=svdllm")
    grown = run_config("method=svdllm")
    grown.allocator = Grown()
    assert run_id(grown) == run_id(base)
    assert grown.to_plain() == base.to_plain()
    grown.allocator = Grown(share=0.5)
    assert run_id(grown) != run_id(base)
    assert grown.to_plain()["allocator"] == {**base.to_plain()["allocator"], "share": 0.5}


def test_the_run_itself_may_grow(run_config: Callable[..., RunConfig]) -> None:
    @dataclass
    class GrownRun(RunConfig):
        extra: dict[str, Any] = added({})

    base = run_config("method=svdllm")
    values = {f.name: getattr(base, f.name) for f in fields(base)}
    unnamed = {"heal"}  # itself added, and left out at its default
    whole = {k: v for k, v in dataclasses.asdict(base).items() if k not in unnamed}
    assert GrownRun(**values).to_plain() == base.to_plain() == whole
    assert GrownRun(**values, extra={"a": 1}).to_plain() == {**base.to_plain(), "extra": {"a": 1}}


def test_settings_that_are_no_component() -> None:
    @dataclass(frozen=True)
    class GrownSettings(OutputGradientSettings):
        skip: int = added(0)

    assert plain(GrownSettings()) == plain(OutputGradientSettings())
    assert plain(OutputGradientSettings()) == vars(OutputGradientSettings())
    assert plain(GrownSettings(skip=1)) == {**plain(OutputGradientSettings()), "skip": 1}
