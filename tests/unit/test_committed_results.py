"""What is committed next to the records is what the records render to."""

from __future__ import annotations

import os
from pathlib import Path

import front_page
import numpy as np
import pytest
from matplotlib.image import imread

from flrc.results.records.run_key import key_of
from flrc.results.records.store import RECORD, find_folders
from flrc.results.studies import claims
from flrc.results.studies.files import draw_plots, write_study
from flrc.results.studies.study import RESULTS, read_study, results_of
from flrc.results.tables.layout import TABLE

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MEASURED = sorted(path.parent.name for path in EXPERIMENTS.glob(f"*/{TABLE}")
                  if (path.parent / RESULTS).is_dir())  # fmt: skip
TEXTS = ("markdown", "latex", "csv")


@pytest.mark.parametrize("name", MEASURED)
def test_tables_are_current(name: str, tmp_path: Path) -> None:
    folder = EXPERIMENTS / name
    study = read_study(folder)
    assert study is not None
    places = {
        key_of(record): os.path.relpath(run.path / RECORD, folder)
        for run, record in find_folders(results_of(folder, "small"))
    }
    plots = {path.stem for path in folder.glob("*.png")}
    for written in write_study(study, tmp_path, places, TEXTS):
        fresh, kept = written.read_text("utf-8"), (folder / written.name).read_text("utf-8")
        without = "\n".join(line for line in kept.splitlines() if not line.startswith("!["))
        assert fresh.split() == without.split(), f"python -m flrc.reporting experiments/{name}"
    assert all(
        f"![{plot}]({plot}.png)" in (folder / "table.md").read_text("utf-8") for plot in plots
    )


def test_the_page_of_claims_is_current() -> None:
    kept = (EXPERIMENTS / "README.md").read_text("utf-8")
    assert kept == claims.claims_page(claims.studies(EXPERIMENTS)), (
        "python -m flrc.studies claims experiments"
    )


@pytest.mark.parametrize("page", ["docs/results.md", "docs/choose.md"])
def test_the_tables_of_pages_are_current(page: str) -> None:
    kept = (EXPERIMENTS.parent / page).read_text("utf-8")
    assert kept == front_page.fill(kept, EXPERIMENTS), (
        f"python scripts/front_page.py {page} experiments"
    )


def test_the_picture_on_the_front_page_is_current(tmp_path: Path) -> None:
    kept = EXPERIMENTS.parent / "docs" / "perplexity.svg"
    assert "(docs/perplexity.svg)" in (EXPERIMENTS.parent / "README.md").read_text("utf-8")
    assert kept.stat().st_size < 150_000
    front_page.plot(EXPERIMENTS, tmp_path / "new.svg")
    # To the last byte, with the versions of constraints.txt.
    assert (tmp_path / "new.svg").read_bytes() == kept.read_bytes(), (
        "python scripts/front_page.py README.md experiments docs/perplexity.svg"
    )


def test_a_committed_plot_is_current(tmp_path: Path) -> None:
    kept = EXPERIMENTS / "ours" / "pareto.png"
    study = read_study(EXPERIMENTS / "ours")
    assert study is not None
    assert study.layout.plots[0] == "pareto"
    drawn, vector = draw_plots(study, tmp_path)[:2]
    # To the last pixel, with the versions of constraints.txt.
    assert np.array_equal(imread(drawn), imread(kept)), "python -m flrc.reporting experiments/ours"
    assert vector.read_bytes() == kept.with_suffix(".pdf").read_bytes()
