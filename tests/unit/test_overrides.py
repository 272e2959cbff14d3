"""Overrides mean what Hydra's grammar says, wherever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import CONF

from flrc.config import register
from flrc.errors import UserError
from flrc.library.overrides import check_contradictions, evaluates
from flrc.sweeps.arguments import Command, ConfigLocation, loader
from flrc.sweeps.override_checks import check_overrides
from flrc.sweeps.overrides import parse, quoted, values
from flrc.sweeps.study_report import narrows


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("method=flrc", ["flrc"]),
        ("method='flrc',\"svd\"", ["flrc", "svd"]),
        ("method=glob(svdllm*,exclude=*_v2)", ["svdllm", "svdllm_healed"]),
        ("+evaluation=[perplexity,'zeroshot'],[efficiency]",
         [["perplexity", "zeroshot"], ["efficiency"]]),
        ("++seed=range(1,4)", [1, 2, 3]),
        ("rate=choice(0.1,0.2)", [0.1, 0.2]),
        ("data.root='a=b,c'", ["a=b,c"]),
        ("data.root=str(0.30)", ["0.3"]),
    ],
)  # fmt: skip
def test_values(override: str, expected: list[object]) -> None:
    (parsed,) = parse([override], loader(ConfigLocation(str(CONF))))
    assert values(parsed) == expected


@pytest.mark.parametrize("text", ["a b", "it's", "a,b=${c}", "back\\slash\\", "é", "[x"])
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    (override,) = parse([f"data.root={quoted(text)}"])
    assert values(override) == [text]


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["-m", "a=1", "b=2"], ["a=1", "b=2"]),
        (["a=1", "-m", "b=2"], ["a=1", "b=2"]),
        (["a=1", "--config-dir", "x", "b=2", "--multirun"], ["a=1", "b=2"]),
        (["--config-dir=x", "~a"], ["~a"]),
    ],
)
def test_flags_may_stand_anywhere(arguments: list[str], overrides: list[str]) -> None:
    command = Command.of(str(CONF), arguments)
    assert command.overrides == overrides
    assert sorted([*command.flags, *overrides]) == sorted(arguments)
    assert command.runs
    extra = any("--config-dir" in argument for argument in arguments)
    assert command.location.extra_folder == (str(Path("x").absolute()) if extra else None)


@pytest.mark.parametrize(
    "flags", [["--help"], ["--cfg", "job"], ["-c", "all"], ["--info"], ["--hydra-help"]]
)
def test_what_hydra_answers(flags: list[str]) -> None:
    assert not Command.of(str(CONF), ["rate=0.3", *flags]).runs


@pytest.mark.parametrize(
    "word", ["++rate=0.3", "rate='0.3'", "+seed=1", "hydra.mode=RUN", "++hydra.verbose=true",
             "hydra/launcher=joblib", "~launcher", "workers@x=1", "model.save=true"],
)  # fmt: skip
def test_overrides_must_not_repeat_arguments(word: str) -> None:
    with pytest.raises(UserError, match="cannot be overridden here"):
        check_contradictions([word], by_name=True, calibrated=False)


def test_evaluations_are_named_in_any_way() -> None:
    for word in ("evaluation=[perplexity]", "+evaluation=perplexity", "evaluation='perplexity'"):
        assert evaluates(parse([word]))
        check_contradictions(
            ["evaluation.perplexity.windows=1", word], by_name=True, calibrated=False
        )
    for word in ("~evaluation", "study='evaluation=[perplexity]'"):
        assert not evaluates(parse([word]))


@pytest.mark.parametrize(
    ("word", "narrowed"),
    [
        ("rate=0.2", True),
        ("++rate=0.2", True),
        ("hydra.sweeper.params.rate='0.2'", True),
        ("++paths.runs=x", False),
        ("paths=default", False),
        ("launcher=joblib", False),
        ("hydra.launcher.n_jobs=2", False),
        ("data.root='a=b'", False),
    ],
)
def test_what_narrows_a_study(word: str, narrowed: bool) -> None:
    assert narrows(["experiment=table02", word]) is narrowed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("method=dense quantization=int8",
         "method=dense: the dense model is evaluated unquantized; "
         "quantization=int8 does not apply"),
        ("method=dense,flrc rate=0.2 quantization=none,int8",
         "method=dense: the dense model is evaluated unquantized; "
         "quantization=none,int8 does not apply"),
        ("method=flrc rate=0,0.2 quantization=int8",
         "rate=0: the dense model is evaluated unquantized; quantization=int8 does not apply"),
        ("method=dense allocator=uniform schedule=progressive",
         "method=dense: the dense model is evaluated as it is; "
         "allocator=uniform, schedule=progressive does not apply"),
        ("method=dense,svdllm heal=none,distilled",
         "method=dense: the dense model is evaluated as it is; "
         "heal=none,distilled does not apply"),
        ("method=dense rate=0.2 quantization=none search=none calibration=c4", None),
        ("method=dense decomposition=whitened quantization=int8", None),
        ("method=flrc quantization=int8", None),
        ("experiment=table13", None),
    ],
)  # fmt: skip
def test_what_does_not_apply_to_the_dense_model_is_said_once(
    words: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    register()
    check_overrides(ConfigLocation(str(CONF)), words.split(), multirun=True)
    assert caplog.messages == ([] if told is None else [told])
