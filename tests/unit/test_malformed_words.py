"""What was meant by words of the command line that cannot be read, or have the wrong type."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny import CONF

import flrc
from flrc.config import register
from flrc.errors import UserError, nearest
from flrc.sweeps.arguments import Command, ConfigLocation
from flrc.sweeps.override_checks import check_overrides

ACCEPTED = [
    ["+data.revisions.wikitext2=abc", "data=hub"],
    ["+evaluation=zeroshot"],
    ["++rate=0.3"],
    ["-m", "rate=choice(0.1,0.2)", "seed=range(0,3)"],
    ["-m", "hydra/sweeper=basic", "rate=interval(0.1,0.3)"],
    ["experiment=table02", "rate=0.2,0.3"],
    ["hydra.mode=MULTIRUN", "rate=0.2,0.3"],
    ["evaluation.perplexity.windows=null", "force=yes", "threads=2"],
    ["~evaluation.perplexity", "evaluation.summarization={limit: 4}"],
    ["data=folder", "data.root='a,b'", "paths.runs='${now:%Y}'"],
]


def checked(words: list[str]) -> None:
    register()
    command = Command.of(str(CONF), words)
    check_overrides(command.location, command.overrides, command.multirun)


@pytest.mark.parametrize("words", ACCEPTED, ids=" ".join)
def test_what_is_right_passes(words: list[str]) -> None:
    checked(words)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["rate=", "0.2"], "rate=0.2"),
        (["rate", "=0.2"], "rate=0.2"),
        (["rate:0.2"], "rate=0.2"),
        (["rate==0.2"], "rate=0.2"),
        (["rate=0.2,"], "rate=0.2"),
        (["-m", "rate=0.2,", "0.3,", "0.4"], "-m rate=0.2,0.3,0.4"),
        (["evaluation=[perplexity,", "zeroshot]"], "evaluation=[perplexity,zeroshot]"),
        (["evaluation=perplexity]"], "evaluation=[perplexity]"),
        (["paths={runs:a"], "'paths={runs:a}'"),
        (["--force"], "force=true"),
        (["--rate=0.2"], "rate=0.2"),
        (["--multirn"], "did you mean --multirun?"),
        (["+rate=0.3"], "rate=0.3"),
        (["seed=1e2"], "seed=100"),
        (["rate=[0.2]"], "rate=0.2"),
        (["calibration={sample: 4}"], "did you mean calibration.samples?"),
        (["evaluation.perplexity.datasets.0=c4"],
         "the whole list: evaluation.perplexity.datasets=[VALUE,...]"),
        (["evaluation.perplexity.datasets=wikitext2,c4"],
         "evaluation.perplexity.datasets=[wikitext2,c4]"),
        (["-m", "method=flrc,ASVD,KFAC"], "did you mean asvd? -m method=flrc,asvd,kfac"),
        (["rate=0.2", "rate=0.2"], "rate=0.2"),
        (["-m", "method=svdllm,svdlm"], "did you mean svdllm? It is there already: method=svdllm"),
        (["-m", "method=svdlm,svdllm,kfca"],
         "did you mean svdllm? It is there already: -m method=svdllm,kfac"),
        (["evaluation=[perplexity,perplexty]"],
         "did you mean perplexity? It is there already: evaluation=[perplexity]"),
        (["runs=/tmp/x"], "did you mean paths.runs=/tmp/x?"),
        (["cache=/tmp/x"], "did you mean paths.cache=/tmp/x?"),
        (["+foo=1"], None),
        (["experiment=table99"], None),
        (["experiment=Table-2"], "did you mean table02? experiment=table02"),
        (["experiment=tabel02"], "did you mean table02? experiment=table02"),
    ],
    ids=str,
)  # fmt: skip
def test_the_fix_is_what_was_meant(words: list[str], fix: str | None) -> None:
    with pytest.raises(UserError) as caught:
        checked(words)
    assert caught.value.fix == fix
    if fix is None:
        assert "nearest" not in str(caught.value)


@pytest.mark.parametrize("word", ["rate=0.2,0.3", "method=FLRC", "rate=20%", "rate"])
def test_mistakes_in_overrides_of_python(word: str) -> None:
    with pytest.raises(UserError) as caught:
        flrc.run(word)
    assert "-m " not in str(caught.value.fix)
    with pytest.raises(UserError):
        check_overrides(ConfigLocation(str(CONF)), [word])


@pytest.mark.parametrize(
    ("given", "option"),
    [("FLRC", "flrc"), ("SVD-LLM", "svdllm"), ("svd llm v2", "svdllm_v2"), ("table2", "table02"),
     ("Table-10", "table10"), ("flcr", "flrc"), ("zzzzzz", None)],
)  # fmt: skip
def test_spelling_makes_no_difference(given: str, option: str | None) -> None:
    options = ["flrc", "flra", "svd", "svdllm", "svdllm_v2", "table02", "table10", "table12"]
    assert nearest(given, options) == option


def test_the_checks_need_no_torch() -> None:
    program = (
        "import sys; from flrc.sweeps.override_checks import check_overrides;"
        "from flrc.sweeps.arguments import ConfigLocation; from flrc.config import register;"
        f"register(); check_overrides(ConfigLocation({str(CONF)!r}), ['rate=0.3'], False);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
