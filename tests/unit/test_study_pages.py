"""The page of claims, the front page's table, and the estimate of a dry run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import front_page
import pytest
import yaml
from records_factory import measurement, record
from study_factory import EXPECTED, LAYOUT, job, perplexity, study_folder

from flrc.errors import UserError
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.results.studies import claims, manifest
from flrc.results.studies.estimate import estimate
from flrc.results.tables.facts import facts_of

ORDERS = [
    {"metric": "wikitext2/perplexity", "above": {"method": "flrc"}, "below": {"method": "svdllm"}},
    {"metric": "wikitext2/perplexity", "above": {"method": "svdllm"}, "below": {"method": "flrc"}},
]


def committed(tmp_path: Path, records: list[Record]) -> Path:
    """A study's folder with these records in its results."""
    folder = study_folder(tmp_path)
    for made in records:
        RunFolder(folder / "results" / str(made.run["id"])).write_record(made)
    manifest.write(folder / "results", [job(made) for made in records])
    return folder


def test_every_claim_stands_with_its_verdict_and_all_are_counted(tmp_path: Path) -> None:
    folder = committed(tmp_path, [perplexity("svdllm", 90.0), perplexity("flra", 50.0)])
    (folder / "expected.yaml").write_text(yaml.safe_dump(EXPECTED | {"orders": ORDERS}), "utf-8")
    empty = folder.parent / "table98"
    empty.mkdir()
    (empty / "table.yaml").write_text(yaml.safe_dump(LAYOUT), "utf-8")
    page = claims.write_claims(folder.parent).read_text("utf-8")
    assert "1 holds, 0 not separated, 0 not separated, reversed, 1 does not hold" in page
    assert "- FLRC is ahead (Section 0)." in page
    assert page.count("12 / 14") == 1
    assert "50.00 / 90.00 | holds" in " ".join(page.split())
    assert "90.00 / 50.00 | does not hold" in " ".join(page.split())
    assert "2 runs, 2 minutes." in page  # 51.5 s each
    assert "Not run at this scale yet." in page


def test_a_stage_that_two_studies_have_counts_once_in_all_of_them(tmp_path: Path) -> None:
    one, two = perplexity("svdllm", 90.0), perplexity("flra", 50.0)
    for made, seconds in ((one, 3600.0), (two, 7200.0)):
        made.meta["stages"] = [{"name": "x", "seconds": seconds, "peak_bytes": 0, "cached": False}]
    folder = committed(tmp_path, [one, two])
    shared = folder.parent / "table98"
    shutil.copytree(folder, shared)
    page = claims.write_claims(folder.parent).read_text("utf-8")
    assert page.count("2 runs, 180 minutes.") == 2
    assert "all studies together took 3.0 hours" in page


def test_the_front_page_is_written_between_its_marks(tmp_path: Path) -> None:
    folder = committed(
        tmp_path, [perplexity("dense", 20.0), perplexity("svdllm", 90.0), perplexity("flra", 50.0)]
    )
    mark = f"<!-- table of {folder.name}: wikitext2/perplexity -->"
    page = f"# Head\n\n{mark}\nold\n<!-- end -->\n\ntail\n"
    filled = front_page.fill(page, folder.parent)
    assert filled.startswith(f"# Head\n\n{mark}\n")
    assert filled.endswith("<!-- end -->\n\ntail\n")
    assert "old" not in filled
    assert "| Wiki2 perplexity, 20 % |    20.00 |   90.00 | **50.00** |" in filled
    assert front_page.fill(filled, folder.parent) == filled
    with pytest.raises(UserError, match="no place"):
        front_page.fill("# Head\n", folder.parent)
    for wrong in (f"table of {folder.name}: c4/nothing", "table of nowhere: wikitext2/perplexity"):
        with pytest.raises(UserError, match="no study has"):
            front_page.fill(f"<!-- {wrong} -->\n<!-- end -->", folder.parent)


def waiting(made: Record, runs: Path) -> dict[str, Any]:
    facts = facts_of(made.run["config"])
    return {"study": "table99", "scale": "small", "runs": str(runs), "facts": facts}


def test_an_estimate_is_made_of_runs_of_the_method_in_the_study(tmp_path: Path) -> None:
    done = record("svdllm", 0.2, study="table99", measurements=[measurement("a/b", 1.0, 0.2)])
    done.meta["stages"] = [{"name": "x", "seconds": 600.0, "peak_bytes": 0, "cached": False}]
    RunFolder(tmp_path / "runs" / "m" / "r").write_record(done)
    runs = tmp_path / "runs"
    two = [waiting(record("svdllm", 0.3), runs), waiting(record("svdllm", 0.4), runs)]
    assert estimate(two, tmp_path) == (
        "2 jobs would run, about 20 min in total, judging by similar runs."
    )
    text = estimate([*two, waiting(record("kfac", 0.3), runs)], tmp_path)
    assert text.startswith("3 jobs would run, about 20 min")
    assert text.endswith("there is no similar run yet for 1 of them.")
    assert estimate([waiting(record("kfac", 0.3), runs)], tmp_path) == (
        "1 job would run; there is no similar run yet for 1 of them."
    )
