"""A failing job does not affect other jobs, is named, and is tried again."""

from __future__ import annotations

import pytest
from running import Call, Place, measured, snapshot

from flrc.evaluation.base import Subject
from flrc.evaluation.perplexity import Perplexity
from flrc.results.records.measurement import Outcome


def test_an_impossible_job_does_not_cost_the_others(place: Place, call: Call) -> None:
    arguments = ("-m", "method=svdllm", "rate=0.2,0.9,0.3", "allocator.minimum_rank=10")
    ended = call(*arguments, "evaluation=perplexity")
    assert ended.code == 1
    assert "Traceback" not in ended.text
    assert {record["run"]["status"] for record in place.records().values()} == {"ok"}
    assert [r["results"]["rate"]["requested"] for r in place.records().values()] == [0.2, 0.3]
    assert "error: the rate cannot be reached" in ended.err
    assert "1 of 3 jobs failed" in ended.out
    failed = ended.out.split("1 of 3 jobs failed")[1]
    assert "same command" not in ended.text, "it would fail again"
    assert "0.9" in failed, "the summary says which job failed"
    assert "svdllm" in ended.out.split("1 of 3 jobs failed")[0], "the others are in the table"


def test_no_job_runs_if_one_is_configured_wrongly(place: Place, call: Call) -> None:
    """Whatever is wrong: a value, or two that exclude each other."""
    ended = call("-m", "method=svdllm", "rate=0.2,1.5", "evaluation=perplexity")
    assert ended.code == 1
    assert "rate is out of range" in ended.err
    assert "in job 2 of 2: rate=1.5\n" in ended.err
    assert ended.err.count("error: ") == 1
    place.assert_nothing_computed()
    both = ("method=svdllm", "refine=propagated", "schedule=constant,progressive")
    ended = call("-m", *both, "evaluation=perplexity")
    assert ended.code == 1
    assert "in job 2 of 2: schedule=progressive\n" in ended.err
    place.assert_nothing_computed()
    ended = call("-m", "method=svdllm,svd", "seed=-1", "evaluation=perplexity")
    assert ended.code == 1
    assert "seed is out of range\n" in ended.err, "it is wrong in every job"
    place.assert_nothing_computed()


def test_a_failure_inside_work_is_recorded_and_tried_again(
    place: Place, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Perplexity.evaluate

    def fail_at_high_rates(self: Perplexity, subject: Subject, part: str) -> Outcome:
        if subject.rate > 0.25 and part == "c4":
            raise RuntimeError("the disk is on fire")
        return compute(self, subject, part)

    arguments = ("-m", "method=svdllm", "rate=0.3,0.2", "evaluation=perplexity")
    with monkeypatch.context() as broken:
        broken.setattr(Perplexity, "evaluate", fail_at_high_rates)
        ended = call(*arguments)
    assert ended.code == 1
    failed = place.record("whitened-uniform-constant-r0.3-")
    assert failed["run"]["status"] == "failed"
    assert failed["run"]["stage"] == "perplexity c4"
    assert failed["run"]["error"] == "RuntimeError: the disk is on fire"
    assert place.record("whitened-uniform-constant-r0.2-")["run"]["status"] == "ok"
    summary = ended.out.split("1 of 2 jobs failed")[1]
    assert "The same command computes only what is missing." in summary
    assert "whitened-uniform-constant-r0.3-" in summary
    assert "the disk is on fire" in summary
    log = (place.folder("whitened-uniform-constant-r0.3-") / "run.log").read_text("utf-8")
    assert "Traceback" in log
    assert "fail_at_high_rates" in log

    kept = snapshot(
        place.folder("whitened-uniform-constant-r0.2-"),
        place.folder("whitened-uniform-constant-r0.3-") / "evaluations",
    )
    ended = call(*arguments)
    assert ended.code == 0, ended.text[-3000:]
    assert ended.err.count("done already, nothing computed") == 1
    retried = place.record("whitened-uniform-constant-r0.3-")
    assert retried["run"]["status"] == "ok"
    assert "error" not in retried["run"]
    assert set(measured(retried)) == {"wikitext2/perplexity", "c4/perplexity"}
    now = snapshot(
        place.folder("whitened-uniform-constant-r0.2-"),
        place.folder("whitened-uniform-constant-r0.3-") / "evaluations",
    )
    assert kept.items() <= now.items(), "what was done before the failure is kept"


def test_all_jobs_failing_says_so_once(
    place: Place, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Outcome:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(Perplexity, "evaluate", fail)
    ended = call("method=svdllm", "evaluation=perplexity")
    assert ended.code == 1
    assert "jobs failed" not in ended.out, "the error of a single job is not repeated"
    assert ended.text.count("the disk is on fire") == ended.err.count("the disk is on fire")
    assert ended.out.rstrip().endswith("The same command computes only what is missing.")
    assert ended.text.count("no run has finished") <= 1


def test_a_dry_run_names_what_cannot_run(place: Place, call: Call) -> None:
    ended = call("-m", "dry_run=true", "method=svdllm", "rate=0.2,1.5", "evaluation=perplexity")
    assert ended.code == 1
    assert ended.out.count("would run") == 1
    assert "1 of 2 jobs failed" in ended.out
    assert "rate=1.5" in ended.out.split("1 of 2 jobs failed")[1]
    assert not place.records()
