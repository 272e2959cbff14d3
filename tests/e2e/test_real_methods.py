"""The order of the methods on the default model and real text. Takes about ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import ROOT, Call, Place, measured

DATA = ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="there is no ../shared/data beside the checkout"),
]


@pytest.mark.parametrize("rate", [0.2, 0.3])
def test_order_of_methods(
    rate: float, call: Call, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On few calibration tokens (8 x 512), where whitening on one side is at its weakest."""
    folder = tmp_path_factory.getbasetemp() / "methods"
    place = Place(folder / f"{rate}", DATA)
    ended = call(
        "-m",
        "method=dense,svdllm,flra,kfac,kfac_skip,skipcat",
        f"rate={rate}",
        "model=smollm2_135m",
        "calibration=wikitext2",
        "calibration.samples=8",
        "calibration.length=512",
        "evaluation=[perplexity]",
        "evaluation.perplexity.windows=2",
        "evaluation.perplexity.length=2048",
        "threads=2",
        f"paths.cache={folder / 'cache'}",
        at=place,
    )
    assert ended.code == 0, ended.text[-3000:]
    found = {r["run"]["method"]: measured(r) for r in place.records().values()}
    for name in ("wikitext2/perplexity", "c4/perplexity"):
        value = {method: numbers[name] for method, numbers in found.items()}
        order = ["dense", "kfac_skip", "kfac", "flra", "svdllm"]
        assert sorted(order, key=value.__getitem__) == order, value
        assert value["kfac_skip"] < 0.87 * value["kfac"]
        assert value["kfac"] < 0.75 * value["flra"]
        assert value["skipcat"] < 0.65 * value["svdllm"]
        assert value["kfac_skip"] < value["skipcat"]


def test_fallbacks_are_reported(call: Call, tmp_path: Path) -> None:
    """Fewer tokens than the width of the MLP: the Gram matrix of down_proj's inputs is singular."""
    place = Place(tmp_path, DATA)
    ended = call(
        "method=svdllm",
        "rate=0.2",
        "model=smollm2_135m",
        "calibration=wikitext2",
        "calibration.samples=1",
        "calibration.length=1024",
        "evaluation=[perplexity]",
        "evaluation.perplexity.windows=1",
        "evaluation.perplexity.length=512",
        at=place,
    )
    assert ended.code == 0, ended.text[-3000:]
    (record,) = place.records().values()
    rescued = {entry["target"].rpartition(".")[2] for entry in record["results"]["rescues"]}
    assert rescued == {"down_proj"}
