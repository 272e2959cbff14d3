"""A sweep from the command line: shared work, records, tables, and a repetition."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from running import JOBS, ROOT, SWEEP, Call, Place, Swept, measured, read, snapshot


def test_every_job_has_a_finished_record(swept: Swept) -> None:
    assert swept.ended.code == 0, swept.ended.text[-3000:]
    assert "Traceback" not in swept.ended.text
    records = swept.place.records()
    for job in JOBS:
        record = swept.place.record(job)
        assert record["run"]["status"] == "ok"
        method, rate = (
            ("flrc" if "proportional" in job else "svdllm"),
            float(job.split("-r")[1][:3]),
        )
        assert record["run"]["method"] == method
        assert record["results"]["rate"]["requested"] == rate
        assert record["results"]["rate"]["realised"] == pytest.approx(rate, abs=2e-3)
        names = {"wikitext2/perplexity", "c4/perplexity", "dialogsum/rougeL"}
        assert names <= set(measured(record))
    assert len({record["run"]["id"] for record in records.values()}) == len(records)


def test_a_sweep_calibrates_once(swept: Swept) -> None:
    for stage in ("statistics", "factors", "gradients", "dense_replies"):
        assert len(swept.place.entries(stage)) == 1, stage
    stages = [
        {stage["name"]: stage for stage in swept.place.record(job)["meta"]["stages"]}
        for job in JOBS
    ]
    first, *later = stages
    for name in ("decomposition", "sensitivity", "dense replies"):
        assert first[name]["cached"] is False, name
    assert first["statistics"]["cached"] is False
    for job in later:
        assert job["decomposition"]["cached"] is True
        assert job["dense replies"]["cached"] is True
        assert "statistics" not in job or job["statistics"]["cached"]
    assert later[0]["sensitivity"]["cached"] is True  # flrc again; svdllm needs no gradients


def test_table_and_rendered_files(swept: Swept) -> None:
    out = swept.ended.out
    for word in ("flrc", "svdllm", "perplexity", "rougeL", "Model: tiny"):
        assert word in out
    for value in (measured(swept.place.record(job))["wikitext2/perplexity"] for job in JOBS):
        assert f"{value:.2f}" in out
    (line,) = (line for line in out.splitlines() if line.startswith("rendered in "))
    folder, _, written = line.removeprefix("rendered in ").partition(": ")
    files = [ROOT / folder / name for name in written.split(", ")]
    names = {"table.md", "table.csv", "table.tex", "plot.png", "plot.pdf"}
    assert {file.name for file in files} == names
    for file in files:
        assert file.stat().st_size > 0
        assert file.is_relative_to(swept.place.runs)


def test_generation_is_recorded_at_the_rate_of_the_schedule(swept: Swept) -> None:
    """Recomputed from the replies: each token is one forward step of the phase it falls into."""
    for job, rate in zip(JOBS[:2], (0.2, 0.3), strict=True):
        record = swept.place.record(job)
        phases = record["results"]["phases"]
        (chosen,) = [
            row
            for row in record["results"]["schedule_search"]["candidates"]
            if row["fate"] == "chosen"
        ]
        assert [p["requested"] for p in phases] == [p["rate"] for p in chosen["phases"]]
        assert chosen["rate"] == pytest.approx(rate, abs=0.05)  # a few random replies
        (file,) = (swept.place.folder(job) / "evaluations").glob("summarization.*.json")
        outcome = read(file)
        lengths = [len(item["tokens"]) for item in outcome["items"]]
        starts = [phase.get("step", 0) for phase in phases]
        spent = sum(
            next(
                p["realised"] for s, p in zip(starts[::-1], phases[::-1], strict=True) if s <= step
            )
            for n in lengths
            for step in range(n)
        ) / sum(lengths)
        generated = [m for m in outcome["measurements"] if m["name"] == "dialogsum/rougeL"]
        assert [m["rate"] for m in generated] == [pytest.approx(spent)]
        assert measured(record)["dialogsum/rate"] == pytest.approx(spent)
        prefill = [m for m in record["results"]["measurements"] if "perplexity" in m["name"]]
        assert {m["rate"] for m in prefill} == {record["results"]["rate"]["realised"]}


def test_the_same_command_again_computes_nothing(swept: Swept, call: Call) -> None:
    folders = [swept.place.folder(job) for job in JOBS]
    before, entries = snapshot(*folders), set(swept.place.cache.rglob("*"))
    again = call(*SWEEP, at=swept.place)
    assert again.code == 0, again.text[-3000:]
    assert snapshot(*folders) == before
    assert set(swept.place.cache.rglob("*")) == entries
    assert again.err.count("done already, nothing computed") == len(JOBS)
    table = [line for line in again.out.splitlines() if re.search(r"\b(flrc|svdllm)\b", line)]
    assert table, "what is done already is still shown"


def test_prefill_evaluations_ignore_the_schedule(swept: Swept, call: Call) -> None:
    ended = call("-m", "method=flra", "rate=0.2,0.3", at=swept.place)
    assert ended.code == 0, ended.text[-3000:]
    for rate in ("0.2", "0.3"):
        flra = swept.place.record(f"whitened-proportional-constant-r{rate}-")
        flrc = swept.place.record(f"whitened-proportional-progressive-r{rate}-")
        for name in ("wikitext2/perplexity", "c4/perplexity"):
            assert measured(flra)[name] == measured(flrc)[name]
        assert flra["run"]["id"] != flrc["run"]["id"]
        # These runs use the same calibration and the same backward pass.
        cached = {s["name"] for s in flra["meta"]["stages"] if s["cached"]}
        assert {"decomposition", "sensitivity", "dense replies"} <= cached
    assert len(swept.place.entries("factors")) == 1


def test_dense_is_computed_once_whatever_the_rate(place: Place, call: Call) -> None:
    ended = call("-m", "method=dense", "rate=0.2,0.3", "evaluation=perplexity")
    assert ended.code == 0, ended.text[-3000:]
    (record,) = place.records().values()
    assert record["results"]["rate"]["realised"] == 0
    assert ended.err.count("done already, nothing computed") == 1
    assert not place.entries("factors")


def test_replay_of_a_plan_gives_the_same_numbers(swept: Swept, call: Call) -> None:
    plan = swept.place.folder(JOBS[0]) / "plan.json"
    ended = call(
        "method=flrc", "allocator=replay", f"allocator.path={plan}", "rate=0.2", at=swept.place
    )
    assert ended.code == 0, ended.text[-3000:]
    replayed, original = (
        swept.place.record(name) for name in ("whitened-replay-progressive-r0.2-", JOBS[0])
    )
    assert measured(replayed) == measured(original)
    ranks = [
        [layer["phase_ranks"] for layer in r["results"]["layers"]] for r in (replayed, original)
    ]
    assert ranks[0] == ranks[1]


def test_dry_run_lists_and_computes_nothing(place: Place, call: Call) -> None:
    ended = call("-m", "method=flrc,dense", "rate=0.2,0.3", "dry_run=true")
    assert ended.code == 0, ended.text
    lines = [line for line in ended.out.splitlines() if "would run" in line]
    names = {Path(line.split()[-1]).name.rsplit("-", 1)[0] for line in lines}
    flrc = "whitened-proportional-progressive"
    assert names == {f"{flrc}-r0.2", f"{flrc}-r0.3", "none-none-constant-r0"}
    place.assert_nothing_computed()
    # What each job takes, its memory and time on this machine, and how that is known.
    assert len(re.findall(r"TFLOP, about \d+ min, [\d.]+ GB on the host", ended.out)) == 4
    assert "In all: " in ended.out
    assert "Reckoned from counted operations and bytes, not measured" in ended.out


def test_a_dry_run_of_one_job_lists_its_stages(place: Place, call: Call) -> None:
    ended = call("method=kfac_skip", "rate=0.2", "dry_run=true")
    assert ended.code == 0, ended.text
    rows = [line.split("  ")[0] for line in ended.out.splitlines() if line.rstrip().endswith("GB")]
    for stage in ("load", "output gradients", "decomposition", "refinement", "surgery"):
        assert stage in rows, ended.out
    place.assert_nothing_computed()


def test_a_dry_run_without_the_device_gives_no_times(place: Place, call: Call) -> None:
    ended = call("method=svdllm", "rate=0.2", "device=cuda:9", "dry_run=true")
    assert ended.code == 0, ended.text
    assert "TFLOP" in ended.out
    assert "GB on the GPU" in ended.out
    assert " min" not in ended.out.replace("minutes", "")


def test_dry_run_lists_what_is_done(swept: Swept, call: Call) -> None:
    ended = call("-m", "method=svdllm", "rate=0.2,0.4", "dry_run=true", at=swept.place)
    assert ended.code == 0, ended.text
    lines = [line for line in ended.out.splitlines() if "/whitened-" in line]
    states = {line.split()[-1].split("-constant-r")[1][:3]: line for line in lines}
    assert states["0.2"].split()[0] == "done"
    assert "would run" in states["0.4"]


def test_force_computes_again_and_agrees(swept: Swept, place: Place, call: Call) -> None:
    arguments = ("method=svdllm", "rate=0.2", "evaluation=perplexity")
    assert call(*arguments).code == 0
    first = place.record(JOBS[2])
    assert call(*arguments, "force=true").code == 0
    second = place.record(JOBS[2])
    assert first["results"] == second["results"]
    assert (
        measured(second)["c4/perplexity"] == measured(swept.place.record(JOBS[2]))["c4/perplexity"]
    )
    evaluated = [s for s in second["meta"]["stages"] if s["name"].startswith("perplexity")]
    assert len(evaluated) == 2
    assert not any(stage["cached"] for stage in evaluated)
