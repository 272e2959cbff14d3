"""Orders that the paper claims, with significance by items, by seeds, or by standard errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from records_factory import measurement, record
from study_factory import EXPECTED, LAYOUT, perplexity, study_folder

from flrc.results.records.record import Record
from flrc.results.records.run_key import RunKey, key_of
from flrc.results.records.store import RunFolder
from flrc.results.studies import orders
from flrc.results.studies.sections import sections_of
from flrc.results.studies.study import study_of
from flrc.results.tables.value import Value


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ((16.0, 0.5), (10.0, 0.5), "holds"),
        ((11.0, 0.5), (10.0, 0.5), "not separated"),
        ((9.5, 0.5), (10.0, 0.5), "not separated, reversed"),
        ((8.0, 0.5), (10.0, 0.5), "does not hold"),
        ((10.1, None), (10.0, None), "holds"),
        ((10.0, None), (10.0, None), "not separated"),
        ((float("nan"), None), (10.0, None), "a number is not finite"),
    ],
)
def test_verdicts(better: tuple[float, float], worse: tuple[float, float], verdict: str) -> None:
    made = [Value(v, None, e, 1, 0.2, [], "%", True) for v, e in (better, worse)]
    assert orders.verdict(made[0], made[1], "dialogsum/rougeL") == verdict


def test_perplexities_of_the_same_tokens_need_no_error() -> None:
    made = [Value(v, None, 40.0, 1, 0.2, [], "perplexity", False) for v in (50.0, 51.0)]
    assert orders.verdict(made[0], made[1], "wikitext2/perplexity") == "holds"
    assert orders.verdict(made[1], made[0], "wikitext2/perplexity") == "does not hold"


@pytest.mark.parametrize(
    ("order", "equality"),
    [
        ("holds", "does not hold"),
        ("not separated", "not separated"),
        ("not separated, reversed", "not separated"),
        ("does not hold", "does not hold"),
        ("a number is not finite", "a number is not finite"),
    ],
)
def test_equality_is_refuted_or_left_open(order: str, equality: str) -> None:
    assert orders.alike(order) == equality


def with_scores(
    tmp_path: Path, scores: dict[tuple[str, int], list[float]], **more: Any
) -> tuple[Path, list[Record], dict[RunKey, RunFolder]]:
    """A study of ROUGE-L: method and seed -> the scores of its items."""
    layout = LAYOUT | {"columns": [{"name": "dialogsum/rougeL", "title": "ROUGE-L"}]}
    folder = study_folder(tmp_path, layout)
    order = {"metric": "dialogsum/rougeL", "above": {"method": "flrc"},
             "below": {"method": "svdllm"}} | more  # fmt: skip
    (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED | {"orders": [order]}), "utf-8")
    made, folders = [], {}
    for (method, seed), of_items in scores.items():
        own = measurement("dialogsum/rougeL", sum(of_items) / len(of_items), 0.2, stderr=13.0)
        made.append(record(method, 0.2, seed, measurements=[own]))
        at = RunFolder(tmp_path / f"{method}-{seed}")
        items = [{"id": str(k), "rougeL": score} for k, score in enumerate(of_items)]
        at.write_json("evaluations/s.json", {"evaluation": "summarization", "part": "dialogsum",
                                             "settings": {}, "measurements": [own],
                                             "items": items})  # fmt: skip
        folders[key_of(made[-1])] = at
    return folder, made, folders


def verdict_of(
    folder: Path, made: list[Record], folders: dict[RunKey, RunFolder] | None = None
) -> list[str]:
    found = study_of(folder, made, [], folders)
    assert found is not None
    grid = sections_of(found)[-1].grid
    assert grid is not None
    return [cell.text for cell in grid.rows[0].cells[-2:]]


def test_items_of_both_runs_decide_where_they_are_at_hand(tmp_path: Path) -> None:
    """A gain of one point on every item is significant, however much the items vary."""
    items = [float(10 * k) for k in range(20)]
    folder, made, folders = with_scores(
        tmp_path, {("svdllm", 0): items, ("flra", 0): [score + 1.0 for score in items]}
    )
    assert verdict_of(folder, made) == ["96.00 / 95.00", "not separated"]
    assert verdict_of(folder, made, folders) == ["96.00 / 95.00 (+1.0 to +1.0)", "holds"]


def test_a_claim_of_equality_is_refuted_by_a_difference(tmp_path: Path) -> None:
    items = [float(10 * k) for k in range(20)]
    for gains, verdict in (
        ([1.0] * 20, "does not hold"),
        ([1.0, -1.0] * 10, "not separated"),
    ):
        better = [score + gain for score, gain in zip(items, gains, strict=True)]
        folder, made, folders = with_scores(
            tmp_path / verdict, {("svdllm", 0): items, ("flra", 0): better}, alike=True
        )
        assert verdict_of(folder, made, folders)[1] == verdict


def test_a_side_without_a_row_has_the_number_of_the_order(tmp_path: Path) -> None:
    scores = {("flra", 0): [8.0, 12.0] * 50}
    for number, verdict in ((1.0, "not separated"), (40.0, "does not hold")):
        folder, made, folders = with_scores(tmp_path / verdict, scores, number=number)
        assert verdict_of(folder, made, folders) == [f"10.00 / {number:.2f}", verdict]


def test_repeats_tell_a_ratio_from_its_number(tmp_path: Path) -> None:
    layout = LAYOUT | {"columns": [{"name": "decode/speedup", "title": "Speedup"}]}
    folder = study_folder(tmp_path, layout)
    order = {"metric": "decode/speedup", "above": {"method": "flrc"},
             "below": {"method": "dense"}, "number": 1}  # fmt: skip
    (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED | {"orders": [order]}), "utf-8")
    for ends, interval, verdict in (
        ((1.1, 1.3), "+0.10 to +0.30", "holds"),
        ((0.9, 1.3), "-0.10 to +0.30", "not separated"),
    ):
        values = zip(("_lowest", "", "_highest"), (ends[0], 1.2, ends[1]), strict=True)
        made = [measurement(f"decode/speedup{name}", at, 0.2) for name, at in values]
        shown, found = verdict_of(folder, [record("flra", 0.2, measurements=made)])
        assert (shown.partition(" (")[2].rstrip(")"), found) == (interval, verdict)


def test_several_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    """Seeds vary widely, the gains are 1, 2, 3; over the items it is the same or not."""
    items = [float(10 * k) for k in range(20)]
    even = {
        (method, seed): [score + 40.0 * seed + gain * (seed + 1) for score in items]
        for method, gain in (("svdllm", 0.0), ("flra", 1.0))
        for seed in range(3)
    }
    folder, made, folders = with_scores(tmp_path, even)
    # 2 -+ 4.303 / sqrt(3): the seeds are what is uncertain.
    assert verdict_of(folder, made, folders) == ["137.00 / 135.00 (-0.5 to +4.5)", "not separated"]
    # The same gain on every seed, but all of it from two items: the items are.
    few = {
        (method, seed): [score + gain * (20.0 if k < 2 else 0.0) for k, score in enumerate(items)]
        for method, gain in (("svdllm", 0.0), ("flra", 1.0))
        for seed in range(3)
    }
    folder, made, folders = with_scores(tmp_path / "few", few)
    assert verdict_of(folder, made) == ["97.00 / 95.00 (+2.0 to +2.0)", "holds"]
    assert verdict_of(folder, made, folders) == ["97.00 / 95.00 (+0.0 to +5.0)", "not separated"]
    # Other seeds on one side: no pairs, the spread over seeds decides.
    other = {key: of for key, of in even.items() if key != ("flra", 2)}
    folder, made, folders = with_scores(tmp_path / "other", other)
    assert verdict_of(folder, made, folders) == ["116.50 / 135.00", "not separated, reversed"]


def test_perplexities_of_several_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    folder = study_folder(tmp_path)
    made = [perplexity("svdllm", at, seed=k) for k, at in enumerate((90.0, 70.0, 80.0))]
    near = [perplexity("flra", at, seed=k) for k, at in enumerate((88.0, 69.0, 77.0))]
    far = [perplexity("flra", at, seed=k) for k, at in enumerate((85.0, 64.0, 75.5))]
    assert verdict_of(folder, made + near)[1] == "not separated"
    assert verdict_of(folder, made + far)[1] == "holds"
