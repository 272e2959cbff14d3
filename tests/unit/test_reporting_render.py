"""The table in Markdown, LaTeX, CSV, a terminal and a plot."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import records_factory as factory
from rich.console import Console

from flrc.errors import UserError
from flrc.reporting import main
from flrc.results.pages.report import print_tables, write_tables
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.results.tables.csv import csv_text
from flrc.results.tables.derived import counts
from flrc.results.tables.group_names import GroupName, group_names
from flrc.results.tables.latex import escape, latex_page
from flrc.results.tables.markdown import markdown_page
from flrc.results.tables.runs_table import RunsTable


def small() -> list[Record]:
    """Three runs without parameter counts and stages, so that the table stays small."""
    records = []
    for method, value in (("dense", 20.0), ("svdllm", 45.678), ("kfac", 30.5)):
        rate = 0.0 if method == "dense" else 0.2
        measured = [factory.measurement("sample_c4/perplexity", value, rate)]
        if method != "kfac":
            measured.append(factory.measurement("piqa/acc", math.nan, rate))
        record = factory.record(method, 0.2, measurements=measured)
        record.run["id"] = f"id_{method}"
        del record.results["parameters"], record.results["bytes"]
        record.meta["stages"] = []
        records.append(record)
    return records


def test_markdown_of_a_small_table() -> None:
    text = markdown_page(RunsTable(small()))
    assert text == """\
Model: smollm2_135m

| method | rate | realised | sample_c4 perplexity ↓ | piqa acc (%) ↑ |
| ------ | ---: | -------: | ---------------------: | -------------: |
| dense  |    0 |   0.0000 |                  20.00 |            NaN |
| svdllm |  0.2 |   0.2000 |                  45.68 |            NaN |
| kfac   |  0.2 |   0.2000 |              **30.50** |          - [1] |

- [1] piqa/acc is not measured for kfac at rate 0.2 (id_kfac).

**Reading**

- Bold: best of its column among the methods at one rate (dense excluded).
- Numbers on sample data (names that begin with sample_ or sotu_) come from the small texts \
shipped with the code; they are not benchmark numbers and not comparable with published ones.

**Settings**

- sample_c4, piqa: windows=8, length=2048, data=abc

**Made with**

- commit: 0123456789ab, device: cpu, dtype: float32, threads: 2
- versions: torch 2.13.0, transformers 5.23.0
- calibration: name=text, samples=16, length=512
""".replace("- [1] |", "\N{EN DASH} [1] |")  # fmt: skip


def test_markdown_escapes_what_an_error_may_hold() -> None:
    bad = factory.record("kfac", 0.3, status="failed", error="shape (2|3)\n <b> *x*")
    text = markdown_page(RunsTable([*small(), bad]))
    assert r"shape (2\|3) \<b> \*x\*" in text


def test_latex_structure() -> None:
    text = latex_page(RunsTable(factory.sweep()))
    code = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(code)
    for environment in ("table", "tabular"):
        assert body.count(rf"\begin{{{environment}}}") == 1
        assert body.count(rf"\end{{{environment}}}") == 1
    bare = re.sub(r"\\[{}]", "", body)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    inside = body.split(r"\toprule")[1].split(r"\bottomrule")[0]
    columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", body).group(1))  # type: ignore[union-attr]
    rows = [line for line in inside.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + 13  # two heading lines; dense, and four methods at three rates
    for row in rows:
        merged = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
        assert len(re.findall(r"(?<!\\)&", row)) + merged == columns - 1
    # everything that LaTeX would interpret is escaped
    outside_rules = re.sub(r"\\(re)?sizebox.*|\{%", "", body)
    assert not re.search(r"(?<!\\)[%#_^~]", outside_rules)
    assert r"sample\_wikitext2" in body
    assert r"no room\_left 100\%" in body
    assert body.isascii()
    assert inside.count(r"\midrule") == 1 + 3


def test_latex_escape() -> None:
    assert escape("a_b 5% {x} \\ $ # ~") == (
        r"a\_b 5\% \{x\} \textbackslash{} \$ \# \textasciitilde{}"
    )


def test_csv_has_full_precision_and_tells_nan_from_missing() -> None:
    text = csv_text(RunsTable(small()))
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert list(frame["method"]) == ["dense", "svdllm", "kfac"]
    assert list(frame["sample_c4/perplexity"]) == ["20.0", "45.678", "30.5"]
    assert list(frame["piqa/acc"]) == ["nan", "nan", ""]
    assert list(frame["runs"]) == ["id_dense", "id_svdllm", "id_kfac"]
    whole = pd.read_csv(io.StringIO(csv_text(RunsTable(factory.sweep()))))
    svdllm = whole[(whole["method"] == "svdllm") & (whole["rate"] == 0.2)].iloc[0]
    assert svdllm["sample_wikitext2/perplexity n"] == 3
    assert svdllm["sample_wikitext2/perplexity std"] == pytest.approx(1.0)  # seeds add 0, 1, 2


@pytest.mark.parametrize("width", [80, 200])
def test_terminal_table_fits_and_shows_everything(width: int) -> None:
    out = io.StringIO()
    print_tables(factory.sweep(), Console(file=out, width=width, markup=False, highlight=False))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in ("470.66 ± 1.00", "37.80*", "kfac at rate 0.4", "activated"):
        assert word in text


def test_fingerprints_and_versions_are_in_the_files_only() -> None:
    settings = {
        "version": 3,
        "windows": 8,
        "length": 2048,
        "data": "0123456789abcdef" * 4,
        "rouge_score": "0.1.2",
    }
    measured = [factory.measurement("c4/perplexity", 5, 0.2, settings=settings)]
    records, out = [factory.record("svdllm", measurements=measured)], io.StringIO()
    print_tables(records, Console(file=out, width=160))
    page = markdown_page(RunsTable(records))
    assert "8 x 2048 tokens of c4" in out.getvalue()
    for word in ("0123456789ab", "torch 2.13.0", "rouge_score", "version=3"):
        assert word not in out.getvalue()
        assert word in page


def test_the_search_of_a_schedule_has_a_column_of_its_own() -> None:
    record = factory.record("flrc")
    record.meta["stages"].append({"name": "schedule", "seconds": 90.0, "cached": False})
    before = counts(factory.record("flrc"))["evaluate_seconds"].value
    assert "schedule_seconds" not in counts(record), "phases that are given take no search"
    record.results["schedule_search"] = {"candidates": [{}]}
    record.meta["schedule_search_seconds"] = {"all": 80.0, "now": 80.0}
    assert counts(record)["schedule_seconds"].value == 90.0
    assert counts(record)["evaluate_seconds"].value == before
    record.meta["schedule_search_seconds"]["now"] = 10.0
    assert "schedule_seconds" not in counts(record), "replies of another run took their time there"


def test_terminal_splits_what_one_table_would_mix() -> None:
    settings = {"windows": 4, "length": 2048}
    measured = [factory.measurement("wikitext2/perplexity", 5, 0.2, settings=settings)]
    out = io.StringIO()
    records = [
        factory.record("svdllm"),
        factory.record("kfac", measurements=measured),
        factory.record("flra", status="failed"),
    ]
    print_tables(records, Console(file=out, width=120))
    text = out.getvalue()
    assert "2 different settings" in text
    assert text.count("Model: smollm2_135m") == 2
    assert "windows=4" in text
    assert "windows=8" in text
    assert text.count("no room_left") == 1


def test_terminal_with_nothing_finished_says_so() -> None:
    out = io.StringIO()
    print_tables([factory.record("kfac", status="failed")], Console(file=out, width=120))
    assert "no run has finished" in out.getvalue()


def test_terminal_says_why_there_is_no_table() -> None:
    out = io.StringIO()
    runs = [
        factory.record("flrc", 0.2, s, measurements=[factory.measurement("a/rougeL", 9, rate)])
        for s, rate in ((0, 0.2), (1, 0.4))
    ]
    print_tables(runs, Console(file=out, width=120))
    assert "measured at different rates" in out.getvalue()


def test_render_writes_every_format(tmp_path: Path) -> None:
    files = write_tables(factory.sweep(), tmp_path / "out")
    names = ["table.md", "table.csv", "table.tex", "plot.png", "plot.pdf"]
    assert [file.name for file in files] == names
    assert (tmp_path / "out" / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [f.name for f in write_tables(small(), tmp_path, ["csv"])] == ["table.csv"]
    with pytest.raises(UserError, match="format"):
        write_tables(small(), tmp_path, ["html"])


def test_one_rate_is_drawn_as_bars_and_nothing_measured_as_nothing(tmp_path: Path) -> None:
    written = write_tables(small(), tmp_path, ["plot"], pictures=["png"])
    assert written == [tmp_path / "plot.png"]
    assert write_tables([factory.record(measurements=[])], tmp_path / "none", ["plot"]) == []


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for record in factory.sweep():
        RunFolder(tmp_path / "m" / record.run["id"]).write_record(record)
    console = Console(file=io.StringIO(), width=200)
    assert main([str(tmp_path), "--format", "markdown", "csv"], console) == 0
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == ["table.csv", "table.md"]
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert said[-2:] == ["report/table.md", "report/table.csv"]
    arguments = [str(tmp_path), "--format", "plot", "--plot-format", "svg", "--x", "removed"]
    assert main([*arguments, "--output", str(tmp_path / "svg")], console) == 0
    assert [f.name for f in (tmp_path / "svg").iterdir()] == ["plot.svg"]
    assert main([str(tmp_path / "nowhere")], console) == 1
    assert "does not exist" in capsys.readouterr().err


def at_length(method: str, length: int, **settings: object) -> Record:
    measured = factory.measurement(
        "wikitext2/perplexity", length / 8, 0.2, settings={"length": length, **settings}
    )
    return factory.record(method, 0.2, measurements=[measured])


def test_two_lengths_are_two_files_named_by_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for record in (at_length("svdllm", 256), at_length("kfac", 512), at_length("flra", 256)):
        RunFolder(tmp_path / "m" / record.run["id"]).write_record(record)
    out = io.StringIO()
    assert main([str(tmp_path)], Console(file=out, width=200)) == 0
    assert not capsys.readouterr().err
    report = tmp_path / "report"
    assert sorted(file.name for file in report.iterdir()) == sorted(
        f"{name}-length{length}.{ending}"
        for length in (256, 512)
        for name, ending in (
            ("table", "md"),
            ("table", "csv"),
            ("table", "tex"),
            ("plot", "png"),
            ("plot", "pdf"),
        )
    )
    short, long = ((report / f"table-length{n}.md").read_text() for n in (256, 512))
    assert short.startswith("Settings: length=256\n")
    assert "svdllm" in short
    assert "flra" in short
    assert "kfac" not in short
    assert "kfac" in long
    assert "Settings: length=512." in (report / "table-length512.tex").read_text()
    for word in ("Settings: length=256", "Settings: length=512", "table-length256.md"):
        assert word in out.getvalue()


def test_names_of_settings_are_short_and_distinct() -> None:
    def names(*records: Record) -> list[GroupName]:
        return group_names([[record] for record in records])

    assert names(at_length("kfac", 256)) == [GroupName()]
    digests = names(*(at_length("kfac", 256, data=digit * 64) for digit in "ab"))
    assert [name.suffix for name in digests] == ["-dataaaaaaaaa", "-databbbbbbbb"]
    lacking = names(at_length("kfac", 256), at_length("kfac", 256, split="test"))
    assert [name.suffix for name in lacking] == ["-1", "-splittest"]
    # The same keys and values, at other measurements.
    crossed = [
        factory.record(
            measurements=[
                factory.measurement(f"{name}/perplexity", 9, 0.2, settings={"length": length})
                for name, length in zip(("a", "b"), lengths, strict=True)
            ]
        )
        for lengths in ((1, 2), (2, 1))
    ]
    assert [name.suffix for name in names(*crossed)] == ["-length1_2-1", "-length1_2-2"]
    assert names(*crossed)[0].of_file("table.md") == "table-length1_2-1.md"


def test_a_table_that_cannot_be_made_does_not_hide_the_others(tmp_path: Path) -> None:
    mixed = [
        factory.record("flrc", 0.2, s, measurements=[factory.measurement("a/rougeL", 9, rate)])
        for s, rate in ((0, 0.2), (1, 0.4))
    ]
    other = factory.measurement("a/rougeL", 9, 0.2, settings={"length": 7})
    with pytest.raises(UserError, match=r"different rates[^$]*records diff id_0 id_1"):
        write_tables(
            [
                *(factory.record("flrc", 0.2, s, measurements=r.results["measurements"],
                                 id=f"id_{s}") for s, r in enumerate(mixed)),
                factory.record("kfac", measurements=[other]),
            ],
            tmp_path,
            ["markdown"],
        )  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 1
