"""Agreement of runs that differ in the seed or in the calibration's size."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import records_factory as factory
from rich.console import Console

from flrc.errors import UserError
from flrc.reporting import main
from flrc.results.plots import stability
from flrc.results.plots.axes import compact
from flrc.results.plots.stability_plot import _apart
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder

SHAPES = ((8, 8), (4, 8), (8, 16), (16, 8))


def run(
    ranks: Sequence[int | None],
    seed: int = 0,
    samples: int = 4,
    *,
    scores: Sequence[float] | None = None,
    form: str = "two_factor",
    method: str = "flra",
    rate: float = 0.2,
    **calibration: object,
) -> Record:
    """A run with up to four layers: q, k, gate and down of block 0, of the shapes above."""
    read = {"name": "text", "samples": samples, "length": 128, **calibration}
    config = {"calibration": read, "form": {"name": form}}
    record = factory.record(method, rate, seed, components={"form": form}, config=config)
    names = ("q_proj", "k_proj", "gate_proj", "down_proj")
    record.results["layers"] = [
        {
            "target": f"layers.0.{name}",
            "block": 0,
            "projection": name,
            "shape": list(shape),
            "rank": rank,
            "score": None if scores is None else scores[index],
            "relative_error": 0.1,
        }
        for index, (name, shape, rank) in enumerate(zip(names, SHAPES, ranks, strict=False))
    ]
    return record


def test_keep_share_is_what_the_form_costs() -> None:
    # two factors: 2 (8 + 8) / 64, 1 (4 + 8) / 32, dense, 3 (16 + 8) / 128
    assert stability.keep_shares(run([2, 1, None, 3])) == [0.5, 0.375, 1.0, 0.5625]
    # pivoted: 2 (8 + 8 - 2) / 64, 1 (4 + 8 - 1) / 32, dense, 3 (16 + 8 - 3) / 128
    pivoted = run([2, 1, None, 3], form="pivoted")
    assert stability.keep_shares(pivoted) == [0.4375, 0.34375, 1.0, 0.4921875]


def test_an_unknown_form_is_named() -> None:
    with pytest.raises(UserError, match="two_facto"):
        stability.keep_shares(run([1], form="two_facto"))


def test_two_seeds_by_hand() -> None:
    # Shares of one seed 0.5, 0.375, 1, 0.5625, ranked 2 1 4 3; of the other 0.75, 0.375, 0.5625, 1,
    # ranked 3 1 2 4. Squared differences of ranks 1 + 0 + 4 + 1 = 6: 1 - 6 * 6 / (4 * 15) = 0.4.
    # Scores 1 2 3 4 against 2 1 4 3: squared differences 4: 1 - 24 / 60 = 0.6.
    one = run([2, 1, None, 3], 0, scores=[1, 2, 3, 4])
    other = run([3, 1, 3, None], 1, scores=[20, 10, 40, 30])
    numbers = stability.pairs(stability.layers([one, other, one]))
    assert len(numbers) == 1
    row = numbers.iloc[0]
    assert (row["model"], row["rate"], row["method"]) == ("smollm2_135m", 0.2, "flra")
    assert (row["tokens"], row["other_tokens"], row["seed"], row["other_seed"]) == (512, 512, 0, 1)
    assert row["spearman_ranks"] == pytest.approx(0.4)
    assert row["spearman_scores"] == pytest.approx(0.6)
    # |a - b| over the mean of both: 0.25 / 0.625, 0, 0.4375 / 0.78125, 0.4375 / 0.78125
    assert row["mean_relative_difference"] == pytest.approx((0.4 + 0 + 0.56 + 0.56) / 4)


def test_ties_take_their_mean_rank() -> None:
    # Shares 0.5, 0.375, 0.5625, 0.5625 are ranked 2 1 3.5 3.5, the others 2 1 3 4: Pearson of ranks
    # with deviations -0.5 -1.5 1 1 and -0.5 -1.5 0.5 1.5: 4.5 / sqrt(4.5 * 5).
    numbers = stability.pairs(stability.layers([run([2, 1, 3, 3], 0), run([2, 1, 3, 4], 1)]))
    assert numbers["spearman_ranks"].item() == pytest.approx(4.5 / math.sqrt(22.5))


def test_nothing_to_rank_is_nan() -> None:
    numbers = stability.pairs(stability.layers([run([2, None], 0), run([None, None], 1)]))
    assert numbers["spearman_ranks"].isna().all()  # one side is the same in every layer
    assert numbers["spearman_scores"].isna().all()  # there are none
    assert numbers["mean_relative_difference"].item() == pytest.approx((0.5 / 0.75) / 2)


def test_seeds_pair_at_one_size_and_sizes_pair_with_the_largest_at_one_seed() -> None:
    runs = [run([2, 1, 3, 3], seed, samples) for seed in (0, 1) for samples in (4, 8, 32)]
    numbers = stability.pairs(stability.layers(runs))
    columns = ["tokens", "other_tokens", "seed", "other_seed"]
    found = {tuple(int(v) for v in row) for row in numbers[columns].to_numpy()}
    assert len(found) == len(numbers)
    of_seeds = {(tokens, tokens, 0, 1) for tokens in (512, 1024, 4096)}
    of_sizes = {(tokens, 4096, seed, seed) for tokens in (512, 1024) for seed in (0, 1)}
    assert found == of_seeds | of_sizes


def test_runs_that_differ_in_more_are_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    runs = [run([2], 0), run([2], 1, datasets=["c4"]), run([2], 1, rate=0.3), run([2], 2)]
    with caplog.at_level(logging.WARNING):
        numbers = stability.pairs(stability.layers(runs))
    assert len(numbers) == 1
    assert (numbers["seed"].item(), numbers["other_seed"].item()) == (0, 2)
    assert "rate 0.3" in caplog.text
    assert "c4" in caplog.text


@pytest.mark.parametrize(
    "runs", [[], [run([2])], [run([2]), run([2], method="svdllm")], [factory.record("dense")]]
)
def test_nothing_to_compare_says_how_to_get_it(runs: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seed=0,1,2 calibration\.samples=8,16,32"):
        stability.write_stability(runs, tmp_path / "stability.png")
    assert list(tmp_path.iterdir()) == []


def test_failed_runs_do_not_count() -> None:
    failed = factory.record("flra", 0.2, 1, status="failed")
    with pytest.raises(UserError, match=r"flra at rate 0\.2 on smollm2_135m: 1"):
        stability.pairs(stability.layers([run([2]), failed]))


@pytest.mark.parametrize(("seeds", "samples"), [((0, 1), (4,)), ((0, 1), (4, 16)), ((0,), (4, 16))])
def test_picture_and_numbers(
    seeds: tuple[int, ...], samples: tuple[int, ...], tmp_path: Path
) -> None:
    runs = [
        run([2 + seed, 1, None, 3], seed, size, scores=scores, method=method, rate=rate)
        for seed in seeds
        for size in samples
        for rate in (0.2, 0.3)
        for method, scores in (("flra", [1.0, 2.0, 3.0, 4.0]), ("svdllm", None))
    ]
    picture, numbers = stability.write_stability(runs, tmp_path / "new" / "stability.png")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert numbers == tmp_path / "new" / "stability.csv"
    pd.testing.assert_frame_equal(
        pd.read_csv(numbers), stability.pairs(stability.layers(runs)), check_dtype=False
    )


def test_only_png(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="PNG"):
        stability.write_stability([run([2]), run([2], 1)], tmp_path / "stability.csv")


def test_token_counts_on_an_axis() -> None:
    assert [compact(n) for n in (512, 4096, 131072, 1048576)] == ["512", "4.1k", "131k", "1.05M"]
    assert _apart([512]) == [512]
    assert _apart([1024, 65536, 65600]) == [65600, 1024]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        record = run([2 + seed, 1, None, 3], seed)
        RunFolder(tmp_path / "runs" / record.run["id"]).write_record(record)
    out = io.StringIO()
    arguments = [str(tmp_path / "runs"), "--format", "csv", "--stability"]
    assert main([*arguments, str(tmp_path / "s.png")], Console(file=out, width=200)) == 0
    assert {"runs", "s.png", "s.csv"} == {path.name for path in tmp_path.iterdir()}
    for name in ("s.png", "s.csv", "table.csv"):
        assert name in out.getvalue()
    one = [str(tmp_path / "runs" / record.run["id"]), "--stability", str(tmp_path / "t.png")]
    assert main(one, Console(file=out, width=200)) == 1
    assert "seed=0,1,2" in capsys.readouterr().err
