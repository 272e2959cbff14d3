"""What holds for every component, found through the registry: new ones are tested automatically."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from options import ALL, IDS, cls, uses, values_of
from options_page import page
from tiny import CONF, ROOT, compose

from flrc.config import GROUPS
from flrc.core.component import plain
from flrc.errors import UserError

ANY_NAME = {"model", "calibration", "decomposition"}
"""Groups whose YAMLs have names of their own; some YAML must use each schema."""
NEEDS = {
    ("allocator", "replay"): "path",
    ("model", "local"): "path",
    ("model", "hub"): "id",
    ("data", "folder"): "root",
}
"""Components that cannot be made without one value: nothing sensible could be its default."""
BAD: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("calibration", "text"): [{"samples": 0}, {"length": 1}, {"datasets": []}],
    ("calibration", "mixed"): [{"dialogues": -1}, {"samples": 0}],
    ("decomposition", "activation_scaled"): [{"alpha": 1.1}, {"alpha": -0.1}, {"floor": 0.0}],
    ("decomposition", "kfac"): [
        {"input_shrinkage": 1.0},
        {"output_shrinkage": -0.1},
        {"output_prior": -1.0},
        {"clip": [2.0, 10.0]},
        {"clip": [0.1]},
        {"labels": "text"},
        {"drop_tokens": 0.5},
        {"gradient_tokens": 0.0},
    ],
    ("decomposition", "whitened"): [{"cutoff": 0.0}, {"cutoff": 1.0}],
    ("form", "pivoted"): [{"bound": 1.0}, {"bound": -2.0}],
    ("runtime", "compiled"): [{"backend": "inducter"}],
    ("runtime", "offload"): [{"budget": "0"}, {"budget": "2"}, {"budget": "8 XB"}],
    ("evaluation", "efficiency"): [
        {"batch_sizes": []},
        {"batch_sizes": [0]},
        {"prompt_tokens": 0},
        {"new_tokens": 1},
        {"repeats": 0},
    ],
    ("search", "halving"): [
        {"samples": 0},
        {"rounds": 0},
        {"switches": []},
        {"switches": [0]},
        {"switches": [48]},
        {"drops": [0.0]},
        {"drops": [1.0]},
        {"metric": "rouge"},
        {"stored": 0.0},
        {"bertscore_model": "bert"},
    ],
    ("refine", "propagated"): [
        {"strength": 1.1},
        {"strength": -0.1},
        {"prior": 0.0},
        {"samples": 0},
    ],
    ("sensitivity", "fisher"): [{"reduction": "sum"}],
    ("sensitivity", "gradient"): [{"reduction": ""}],
    ("allocator", "uniform"): [{"minimum_rank": 0}],
    ("allocator", "proportional"): [
        {"minimum_rank": 0},
        {"redistribution": "other"},
        {"floor": 1.1},
        {"floor": -0.1},
        {"ceiling": 0.9},
    ],
    ("sensitivity", "hessian_trace"): [{"draws": 0}, {"samples": 0}],
    ("allocator", "spectrum"): [{"multiple": 0}, {"minimum_rank": 0}],
    ("allocator", "type_loss"): [{"offset": 1.0}, {"minimum_rank": 0}],
    ("allocator", "effective_rank"): [{"transfer": 1.0}, {"transfer": -0.1}],
    ("allocator", "softmax"): [{"epsilon": 0.0}, {"ceiling": 0.0}, {"ceiling": 1.1}],
    ("allocator", "rank_order"): [{"half_width": -0.1}, {"half_width": 0.6}],
    ("allocator", "sensitivity_search"): [{"ratios": []}, {"ratios": [1.0]}, {"samples": 0}],
    ("allocator", "bayesian"): [{"kinds": []}, {"lowest": 0.0}, {"trials": 0}, {"samples": 0}],
    ("allocator", "depth_linear"): [{"slopes": 1}, {"samples": 0}],
    ("allocator", "probed_surrogate"): [
        {"probe_ratio": 0.0},
        {"multiple": 0},
        {"ratios": [0.9, 0.3]},
        {"ratios_high": [0.5]},
        {"alpha": 0.0},
        {"gamma": 0.0},
        {"trials": 0},
        {"samples": 0},
    ],
    ("allocator", "replay"): [{"path": None}, {"minimum_rank": 0}],
    ("schedule", "progressive"): [{"shares": [1.0]}, {"offsets": [0.1, 0.1]}],
    ("schedule", "increasing"): [{"offsets": [-0.1, 0.1]}],
    ("evaluation", "perplexity"): [{"windows": 0}, {"length": 1}, {"datasets": []}],
    ("evaluation", "zeroshot"): [{"limit": 0}, {"batch_size": 0}, {"tasks": []}],
    ("evaluation", "summarization"): [
        {"limit": 0},
        {"max_new_tokens": 0},
        {"batch_size": 0},
        {"num_beams": 0},
        {"datasets": []},
    ],
    ("model", "random"): [{"shape": "huge"}],
    ("model", "local"): [{"path": None}],
    ("data", "folder"): [{"root": ""}],
    ("tracker", "wandb"): [{"mode": "sometimes"}],
}


def refers(value: Any) -> bool:
    """Whether a value is another key's, as in ``${dtype}``."""
    return isinstance(value, str) and value.startswith("${")


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_a_yaml_uses_the_schema(group: str, name: str) -> None:
    found = uses(group, name)
    assert found, f"no conf/{group}/*.yaml begins with schema/{group}/{name}"
    if group not in ANY_NAME:
        expected = {"default" if group == "paths" else name}
        assert {path.stem for path in found} == expected
    for path in found:
        assert values_of(group, path)["name"] == name


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_every_field_is_stated_and_none_is_unknown(group: str, name: str) -> None:
    known = {field.name for field in fields(cls(group, name))}
    for path in uses(group, name):
        stated = set(values_of(group, path))
        # A label is optional: it names folders and does not change what is computed.
        assert known - stated <= {"label"}, path
        assert stated <= known, path


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_composed_is_what_the_yaml_states(
    group: str, name: str, tmp_path: Path, data_root: Path
) -> None:
    for path in uses(group, name):
        option = f"evaluation=[{path.stem}]" if group == "evaluation" else f"{group}={path.stem}"
        stated = values_of(group, path)
        overrides = [option, *(["allocator=uniform"] if group == "sensitivity" else [])]
        component: Any = cls(group, name)
        if (group == "form" and not component.NESTED) or (group == "refine" and component.REFINES):
            overrides.append("schedule=constant")  # the default changes ranks while it runs
        needed = NEEDS.get((group, name))
        if needed is not None and not stated.get(needed):
            with pytest.raises(UserError):  # reports what is missing instead of failing later
                compose(*overrides)
            (tmp_path / "there").write_text("{}")
            stated[needed] = "owner/name" if needed == "id" else str(tmp_path / "there")
            overrides.append(f"{group}.{needed}={stated[needed]}")
        config = compose(*overrides)
        found = config.evaluation[name] if group == "evaluation" else getattr(config, group)
        assert type(found) is cls(group, name)
        for key, value in stated.items():
            if refers(value):
                continue
            if key == "label" and not value:
                assert found.label  # filled in from shape or path
            else:
                assert plain(getattr(found, key)) == value, f"{path}: {key}"


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_the_name_is_constant(group: str, name: str) -> None:
    with pytest.raises(UserError, match="cannot be set by hand"):
        cls(group, name)(name="another")
    path = uses(group, name)[0]
    key = f"evaluation.{name}" if group == "evaluation" else group
    option = f"evaluation=[{name}]" if group == "evaluation" else f"{group}={path.stem}"
    with pytest.raises(UserError, match="cannot be set by hand"):
        compose(option, f"{key}.name=another")


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_class_file_and_version(group: str, name: str) -> None:
    component = cls(group, name)
    assert type(component.VERSION) is int
    assert component.VERSION >= 1
    assert component.__doc__
    assert issubclass(component, GROUPS[group][1])
    assert not component.__abstractmethods__
    assert component.__module__.rpartition(".")[2] == name


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_values_out_of_range_are_refused(group: str, name: str) -> None:
    bad = BAD.get((group, name), [])  # a new component may list its own here
    needed = NEEDS.get((group, name))
    for values in bad:
        needs = {needed: "owner/name" if needed == "id" else __file__} if needed else {}
        given = {**needs, **values}
        with pytest.raises(UserError):
            cls(group, name)(**given)


@pytest.mark.parametrize(("group", "name"), ALL, ids=IDS)
def test_described_in_plain_values(group: str, name: str, tmp_path: Path) -> None:
    from flrc.core.jsonfile import canonical

    if (group, name) == ("allocator", "replay"):
        return  # reads its file: see tests/unit/test_replay.py
    needed = NEEDS.get((group, name))
    value = "owner/name" if needed == "id" else str(tmp_path)
    made = cls(group, name)(**({needed: value} if needed else {}))
    described = made.describe()
    assert described["name"] == name
    assert described["version"] == cls(group, name).VERSION
    canonical(described)


PROGRAM = """
import sys
import flrc.config
flrc.config.register()
import flrc.core.component
heavy = {"torch", "transformers", "lm_eval", "datasets", "wandb", "evaluate"} & set(sys.modules)
assert not heavy, heavy
"""


def test_components_import_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", sorted(p.stem for p in (CONF / "method").glob("*.yaml")))
def test_presets_say_every_slot_of_a_method(method: str) -> None:
    config = compose(f"method={method}")
    assert config.method.name == method
    text = (CONF / "method" / f"{method}.yaml").read_text("utf-8")
    slots = ("decomposition", "sensitivity", "allocator", "schedule", "grouping", "form")
    for slot in slots:  # none may be left at what another preset or the default had
        assert f"override /{slot}: {getattr(config, slot).name}" in text


@pytest.mark.parametrize("method", ["flrc", "svdllm"])
def test_a_group_on_the_command_line_wins_over_the_preset(method: str) -> None:
    config = compose(f"method={method}", "allocator=uniform", "decomposition=svd")
    assert (config.allocator.name, config.decomposition.name) == ("uniform", "svd")


def test_a_number_of_components_is_there() -> None:
    """The registry is not empty: if it were, every test above would pass."""
    assert len(ALL) >= 25
    assert {group for group, _ in ALL} == set(GROUPS)


def test_two_components_of_one_name_are_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    from flrc.core.component import discover
    from flrc.form.base import Form

    source = (
        "from dataclasses import dataclass\nfrom flrc.form.two_factor import TwoFactor\n"
        '@dataclass\nclass {0}(TwoFactor):\n    name: str = "same"\n'
    )
    package = tmp_path / "twins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("One", "Two"):
        (package / f"{name.lower()}.py").write_text(source.format(name))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TypeError, match="both named 'same'"):
        discover("twins", Form)


def test_the_page_of_options_is_current() -> None:
    kept = (ROOT / "docs" / "options.md").read_text("utf-8")
    assert kept == page(), "python scripts/options_page.py docs/options.md"
    # Keys of the parts that a component is made of have types and meanings too.
    assert "| `distilled.passes` | int | 1 | Passes over the calibration sequences;" in kept
    for group, name in ALL:
        assert f"`{group}=" in kept, (group, name)
