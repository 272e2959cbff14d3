"""The paper's numbers in experiments/: their form, and each of them against the paper's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
PAPER = ROOT.parent / "shared" / "paper" / "flrc_paper.md"
SKIPCAT = PAPER.with_name("skipcat_abstract.txt")

TABLES = [f"table{number:02}" for number in range(1, 15)]
PUBLISHED = [*TABLES, "figure02", "search_time", "skipcat"]
OURS = ["ours", "stability", "long_generation"]

COMPONENTS = (
    "method", "model", "sensitivity", "schedule", "quantization", "calibration", "search",
)  # fmt: skip
OURS_TOO = {"search": "halving"}
"""Facts that the paper's rows have and its tables do not print: ours have others beside them."""
"""Facts whose values are files of ``conf/<fact>``."""

OTHER_FACTS = {"rate", "samples", "block", "projection"}
LOWER_IS_BETTER = ("/perplexity", "/seconds")

needs_paper = pytest.mark.skipif(
    not PAPER.is_file(), reason="the paper's text is not beside this checkout"
)
needs_skipcat = pytest.mark.skipif(
    not SKIPCAT.is_file(), reason="SkipCat's abstract is not beside this checkout"
)

Facts = dict[str, Any]
Row = tuple[Facts, dict[str, float]]


def load(study: str, name: str) -> dict[str, Any]:
    content = yaml.safe_load((EXPERIMENTS / study / f"{name}.yaml").read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def rows_of(study: str) -> list[Row]:
    return [(row["where"], row["values"]) for row in load(study, "expected")["rows"]]


def check_facts(facts: Facts) -> None:
    """Components exist in ``conf/``, and a rate is a share."""
    for fact, value in facts.items():
        if fact == "rate":
            assert type(value) in (int, float)
            assert 0 <= value < 1
            assert (value == 0) == (facts.get("method") == "dense"), facts
        else:
            assert fact in COMPONENTS, f"{fact} is not a fact of a row"
            option = str(value).partition(", stored <= ")[0] if fact == "search" else value
            assert (ROOT / "conf" / fact / f"{option}.yaml").is_file(), f"no {fact}={value}"


# --- Form.


def test_the_studies_are_those_of_the_paper_and_ours() -> None:
    found: dict[str, set[str]] = {name: set() for name in ("expected", "table")}
    for name, studies in found.items():
        studies |= {path.parent.name for path in EXPERIMENTS.glob(f"*/{name}.yaml")}
    assert found == {"expected": set(PUBLISHED), "table": {*PUBLISHED, *OURS}}


@pytest.mark.parametrize("study", PUBLISHED)
def test_expected_values_have_the_known_form(study: str) -> None:
    content = load(study, "expected")
    assert set(content) == {"source", "place", "rows", "claims", "orders"}
    assert re.fullmatch(r"arXiv \d{4}\.\d{5}", content["source"])
    for row in content["rows"]:
        assert set(row) == {"where", "values"}
        check_facts(row["where"])
        assert row["values"]
        for name, value in row["values"].items():
            assert re.fullmatch(r"\w+/\w+", name)
            assert type(value) in (int, float), f"{row['where']}: {name} = {value!r}"
    wheres = [row["where"] for row in content["rows"]]
    assert all(where not in wheres[:i] for i, where in enumerate(wheres)), "a row stands twice"
    assert content["claims"]
    for claim in content["claims"]:
        valued = {"value", "unit"} if "value" in claim else set()
        assert set(claim) - {"small"} == {"text", "place"} | valued
        assert type(claim.get("value", 0)) in (int, float)
    for order in content["orders"]:
        assert set(order) - {"number", "alike"} == {"metric", "above", "below"}
        assert order["above"] != order["below"]
        for side in ("above", "below"):
            check_facts(order[side])


SETTINGS = {"sequences", "tokens", "samples", "billion", "GB"}
"""Units of what the paper set or had, not of what it found."""


@pytest.mark.parametrize("study", PUBLISHED)
def test_every_finding_is_answered(study: str) -> None:
    """By an order that the records decide, or by a statement in words."""
    content = load(study, "expected")
    for claim in content["claims"]:
        if claim.get("unit") not in SETTINGS:
            assert "small" in claim or content["orders"], claim["text"]


@pytest.mark.parametrize("study", PUBLISHED)
def test_the_answers_have_the_numbers_of_the_tables(study: str) -> None:
    """Every number with decimals is in the study's table, or in that of a study it names."""
    for claim in load(study, "expected")["claims"]:
        words = claim.get("small", "")
        named = [f"table{int(name):02d}" for name in re.findall(r"Table (\d+)", words)]
        tables = "".join(
            (EXPERIMENTS / name / "table.md").read_text("utf-8") for name in (study, *named)
        )
        for found in re.findall(r"\d+\.\d+", words):
            assert re.search(rf"(?<![\d.]){re.escape(found)}(?!\.?\d)", tables), (found, words)


@pytest.mark.parametrize("study", [*PUBLISHED, *OURS])
def test_tables_have_the_known_form(study: str) -> None:
    content = load(study, "table")
    required = {"caption", "place", "rows", "columns", "labels"}
    assert required <= set(content) <= required | {"group", "read_as", "plots", "headings"}
    facts = [*content["rows"], *([content["group"]] if "group" in content else [])]
    assert facts
    assert len(set(facts)) == len(facts)
    assert set(facts) <= {*COMPONENTS, *OTHER_FACTS}
    for column in content["columns"]:
        assert set(column) == {"name", "title"}
        assert not re.search("[↑↓$]", column["title"]), "arrows are the renderer's"
    for fact, labels in content["labels"].items():
        assert fact in {*COMPONENTS, "projection"}
        for name, label in labels.items():
            if fact in COMPONENTS:
                check_facts({fact: name})
            assert isinstance(label, str)
        assert len(set(labels.values())) == len(labels), "two rows of one name"
    named = set(facts) & set(COMPONENTS)
    assert named <= set(content["labels"])


def test_our_table_names_every_preset() -> None:
    presets = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert set(load("ours", "table")["labels"]["method"]) == presets


@pytest.mark.parametrize("study", PUBLISHED)
def test_a_table_has_a_place_for_every_expected_value(study: str) -> None:
    table = load(study, "table")
    columns = [column["name"] for column in table["columns"]]
    facts = [*table["rows"], *([table["group"]] if "group" in table else [])]
    cells = set()
    for where, values in rows_of(study):
        assert list(values) == [name for name in columns if name in values]
        cell = tuple(where.get(fact) for fact in facts)
        assert cell not in cells, f"two rows of the paper in the cell {cell}"
        cells.add(cell)
        for fact, labels in table["labels"].items():
            assert where.get(fact) is None or where[fact] in labels, f"no name for {where[fact]}"


@pytest.mark.parametrize("study", [*TABLES, "search_time"])
def test_orders_hold_in_the_papers_own_numbers(study: str) -> None:
    """At every rate and for all other facts that an order does not name."""
    rows = rows_of(study)
    for order in load(study, "expected")["orders"]:
        metric, above, below = order["metric"], order["above"], order["below"]
        pairs = [
            (better[metric], worse[metric])
            for (one, better), (other, worse) in product(rows, rows)
            if metric in better and metric in worse
            if above.items() <= one.items() and below.items() <= other.items()
            if all(
                one.get(fact) == other.get(fact)
                for fact in {*one, *other} - {*above, *below}
                # The dense model, at rate 0, stands against every rate.
                if not (fact == "rate" and "dense" in (one["method"], other["method"]))
            )
        ]
        assert pairs, f"{order} compares nothing"
        for better, worse in pairs:
            if order.get("alike"):
                assert better == pytest.approx(worse, abs=0.3), order
            elif metric.endswith(LOWER_IS_BETTER):
                assert better < worse, order
            else:
                assert better > worse, order


def test_tables_that_print_the_same_number_agree() -> None:
    """Misread rates would not: Tables 3, 5, 7 and 13 repeat Table 1, Table 6 repeats Table 2."""
    usual = {"sensitivity": "fisher", "quantization": "none", "calibration": "wikitext2"}
    usual |= OURS_TOO
    known: dict[tuple[str, ...], tuple[str, float]] = {}
    repeated = set()
    for study in TABLES:
        if study == "table12":  # Table 11's runs, but offloaded
            continue
        for where, values in rows_of(study):
            facts = {fact: value for fact, value in where.items() if value != usual.get(fact)}
            if where["method"] == "dense":
                facts = {"model": where["model"], "method": "dense", "rate": 0}
            for metric, value in values.items():
                if metric == "wikitext2/perplexity" and facts["method"] == "flra":
                    facts["method"] = "flrc"  # one plan, where nothing is decoded
                key = (metric, *(f"{fact}={facts[fact]}" for fact in sorted(facts)))
                first, same = known.setdefault(key, (study, value))
                assert value == same, f"{key}: {same} in {first}, {value} in {study}"
                if first != study:
                    repeated.add((first, study))
    assert {("table01", f"table{table:02}") for table in (3, 5, 7, 13)} <= repeated
    assert ("table02", "table06") in repeated


# --- The paper's tables, read from its text without the files above.


@dataclass(frozen=True)
class Layout:
    """How a table is printed: label columns, then the metrics once a group.

    Attributes:
        labels: Number of label columns.
        header: Header lines.
        metrics: What the columns of one group are.
        facts: What holds for every row.
        groups: Facts of every group of columns, in the printed order.
        names: Printed name of a row -> its facts; the dense model's row is ``Baseline``.
        named: Index of the label column that names the row; all of them where it is None.
        rate: Index of the label column of the rate, if there is one.
    """

    labels: int
    header: int
    metrics: list[str]
    facts: Facts
    names: dict[str, Facts]
    groups: list[Facts] = field(default_factory=lambda: [{}])
    named: int | None = 1
    rate: int | None = 0


ROUGE = ["dialogsum/rougeL"]
ZEROSHOT = {
    "ARC-e": "arc_easy/acc",
    "ARC-c": "arc_challenge/acc",
    "Hella": "hellaswag/acc",
    "OBQA": "openbookqa/acc",
    "Wino": "winogrande/acc",
    "MathQA": "mathqa/acc",
    "PIQA": "piqa/acc",
    "Avg.": "zeroshot/mean_acc",
}
SPEED = ["decode/tokens_per_second", "decode/speedup"]
INSTRUCT, CHAT = {"model": "llama3_8b_instruct"}, {"model": "llama2_7b_chat"}
LLAMA3, LLAMA2 = {"model": "llama3_8b"}, {"model": "llama2_13b"}
LLAMA30, SMALL = {"model": "llama_30b"}, {"model": "llama3_2_3b"}
DENSE, FLRC = {"method": "dense"}, {"method": "flrc"}
METHODS = {
    "Baseline": DENSE,
    "ASVD": {"method": "asvd"},
    "SVD-LLM": {"method": "svdllm"},
    "FLRC": FLRC,
}

LAYOUTS = {
    1: Layout(
        2,
        3,
        [
            f"{data}/{m}"
            for data in ("dialogsum", "cnn_dailymail")
            for m in ("rougeL", "bertscore_f1")
        ],
        {},
        METHODS,
        [INSTRUCT, CHAT],
    ),
    2: Layout(3, 2, ["wikitext2/perplexity", *ZEROSHOT.values()], LLAMA3, METHODS, named=2, rate=1),
    3: Layout(
        2,
        1,
        ROUGE,
        INSTRUCT,
        {
            "Baseline": {**DENSE, "sensitivity": "none"},
            "Eq. 4": {**FLRC, "sensitivity": "weight"},
            "Eq. 5": {**FLRC, "sensitivity": "gradient"},
            "Eq. 1": {**FLRC, "sensitivity": "fisher"},
        },
    ),
    4: Layout(
        1,
        1,
        ROUGE,
        INSTRUCT,
        {
            "Static rank decoding": {**FLRC, "schedule": "constant"},
            "Increased rank decoding": {**FLRC, "schedule": "increasing"},
            "Decreased rank decoding": {**FLRC, "schedule": "progressive"},
        },
        named=0,
        rate=None,
    ),
    5: Layout(  # SVD-LLM, FLRA, PLRD; the rate is in the text of appendix E
        3,
        2,
        ROUGE,
        {**INSTRUCT, "rate": 0.2},
        {"✓ ✗ ✗": {"method": "svdllm"}, "✓ ✓ ✗": {"method": "flra"}, "✓ ✓ ✓": FLRC},
        named=None,
        rate=None,
    ),
    6: Layout(
        2,
        1,
        ["wikitext2/perplexity"],
        LLAMA3,
        {"ASVD": {"method": "asvd_alloc"}, "FLRC": {"method": "flra"}},
    ),
    7: Layout(
        2,
        1,
        ROUGE,
        CHAT,
        {
            "Baseline": DENSE,
            "MoDeGPT": {"method": "modegpt_alloc"},
            "PrunerGPT": {"method": "prunergpt_alloc"},
            "FLRC": FLRC,
        },
    ),
    8: Layout(2, 2, ROUGE, {}, METHODS, [SMALL, LLAMA2], named=0, rate=1),
    9: Layout(2, 2, list(ZEROSHOT.values()), LLAMA2, METHODS),
    10: Layout(2, 2, ["wikitext2/perplexity", *ROUGE], LLAMA30, METHODS),
    # A row without a name continues the last one (11), or is FLRC's by the caption (12).
    11: Layout(2, 1, SPEED, INSTRUCT, {**METHODS, "": FLRC}, named=0, rate=1),
    12: Layout(2, 1, SPEED, INSTRUCT, {**METHODS, "": FLRC}, named=0, rate=1),
    13: Layout(
        2,
        2,
        ROUGE,
        {},
        {
            "Baseline": {**DENSE, "quantization": "none"},
            "FP16": {**FLRC, "quantization": "none"},
            "INT8": {**FLRC, "quantization": "int8"},
        },
        [INSTRUCT, CHAT],
    ),
    14: Layout(
        2,
        2,
        ["wikitext2/perplexity", "c4/perplexity"],
        SMALL,
        METHODS,
        [{"calibration": "wikitext2"}, {"calibration": "c4"}],
        named=0,
        rate=1,
    ),
}


def blocks(text: str) -> dict[int, list[list[str]]]:
    """Cells of every table, without bold: the tabbed lines right before its ``Table N:``."""
    found: dict[int, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in text.splitlines():
        if "\t" in line:
            lines.append([re.sub("</?b>", "", cell).strip() for cell in line.split("\t")])
        elif caption := re.match(r"Table (\d+):", line):
            assert int(caption[1]) not in found
            found[int(caption[1])] = lines
            lines = []
        elif line.strip():
            lines = []
    return found


def number(cell: str) -> float:
    """A cell's number; a speed-up is printed as ``1.06x``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)x?", cell)
    assert match, f"{cell!r} is not a number"
    return float(match[1])


def rates(table: int, labels: list[str], baseline: list[bool]) -> list[float]:
    """The rate of every row.

    Each printed rate heads an equal number of rows, whichever of them its label stands on: the
    first, the middle or the last. In Table 7 alone the extraction moved the labels out of their
    groups; Table 1 has FLRC's scores of both rates, which tell the groups apart.
    """
    printed = [label for label in labels if label.endswith("%")]
    share, rest = divmod(baseline.count(False), len(printed))
    assert rest == 0
    assert set(labels) <= {"", "-", *printed}
    found: list[float] = []
    for label, dense in zip(labels, baseline, strict=True):
        group = (len(found) - found.count(0)) // share
        if table != 7:
            assert label in (("-",) if dense else ("", printed[group]))
        found.append(0 if dense else int(printed[group].removesuffix("%")) / 100)
    return found


def parse(table: int, lines: list[list[str]]) -> list[Row]:
    """The rows of a table as expected.yaml has them: line by line, group by group."""
    layout = LAYOUTS[table]
    body = lines[layout.header :]
    labels = [line[: layout.labels] for line in body]
    names = [" ".join(row) if layout.named is None else row[layout.named] for row in labels]
    if table == 13:  # the dense model is the row without a rate
        names = [
            "Baseline" if row[0] == "-" else name for row, name in zip(labels, names, strict=True)
        ]
    baseline = [name == "Baseline" for name in names]
    if layout.rate is None:
        of_row: list[Facts] = [{} for _ in body]
    else:
        printed = [row[layout.rate] for row in labels]
        of_row = [{"rate": rate} for rate in rates(table, printed, baseline)]
    rows = []
    for line, name, rate in zip(body, names, of_row, strict=True):
        cells = line[layout.labels :]
        while cells and not cells[-1]:
            cells.pop()
        numbers = [number(cell) for cell in cells]
        width = len(layout.metrics)
        assert len(numbers) == width * len(layout.groups), line
        for i, group in enumerate(layout.groups):
            values = numbers[i * width : (i + 1) * width]
            facts = {**layout.facts, **layout.names[name], **rate, **group}
            rows.append((facts, dict(zip(layout.metrics, values, strict=True))))
    return rows


@pytest.fixture(scope="module")
def tables() -> dict[int, list[list[str]]]:
    return blocks(PAPER.read_text("utf-8"))


@needs_paper
def test_all_tables_of_the_paper_are_found(tables: dict[int, list[list[str]]]) -> None:
    assert sorted(tables) == sorted(LAYOUTS)
    for table, lines in tables.items():
        for line in lines[: LAYOUTS[table].header]:
            assert not any(re.fullmatch(r"[\d.]+[x%]?", cell) for cell in line), (
                "a header of numbers"
            )


@needs_paper
@pytest.mark.parametrize("table", LAYOUTS)
def test_every_number_of_a_table_is_expected_and_no_other(
    table: int, tables: dict[int, list[list[str]]]
) -> None:
    """Rows, facts and numbers, in the paper's order."""
    paper, rows = parse(table, tables[table]), rows_of(f"table{table:02}")
    assert all(where.get(f, v) == v for where, _ in rows for f, v in OURS_TOO.items())
    ours = [
        ({f: v for f, v in where.items() if f not in OURS_TOO}, values) for where, values in rows
    ]
    assert ours == paper
    assert [list(values) for _, values in ours] == [list(values) for _, values in paper]


@needs_paper
@pytest.mark.parametrize("table", [2, 9])
def test_zero_shot_columns_are_the_headers(table: int, tables: dict[int, list[list[str]]]) -> None:
    header = [cell for cell in tables[table][1] if cell]
    columns = load(f"table{table:02}", "table")["columns"]
    assert [ZEROSHOT[cell] for cell in header] == [column["name"] for column in columns][-8:]
    assert header == [column["title"] for column in columns][-8:]


@pytest.mark.parametrize("table", [2, 9])
def test_the_papers_mean_accuracy_is_the_mean_of_its_tasks(table: int) -> None:
    """A column read as another would not show in the numbers alone."""
    for _, values in rows_of(f"table{table:02}"):
        tasks = [value for name, value in values.items() if name.endswith("/acc")]
        assert len(tasks) == 7
        assert sum(tasks) / 7 == pytest.approx(values["zeroshot/mean_acc"], abs=0.0051)


@needs_paper
@pytest.mark.parametrize("table", [table for table in LAYOUTS if table != 5])  # that one has ticks
def test_row_names_are_the_papers(table: int, tables: dict[int, list[list[str]]]) -> None:
    """Every printed name of a row is the label of its facts."""
    labels = load(f"table{table:02}", "table")["labels"]
    layout = LAYOUTS[table]
    assert layout.named is not None
    printed = {line[layout.named] for line in tables[table][layout.header :]} - {""}
    fact = {3: "sensitivity", 4: "schedule", 13: "quantization"}.get(table, "method")
    for name in printed:
        assert labels[fact][layout.names[name][fact]] == name


@needs_paper
def test_the_search_time_is_the_texts() -> None:
    text = section(PAPER.read_text("utf-8"), "Section 4.4")
    match = re.search(
        r"ASVD method takes approximately (\d+) minutes.* our method requires only (\d+) minutes"
        r".* (\d+)-fold",
        text,
    )
    assert match
    theirs, ours, times = map(int, match.groups())
    assert rows_of("search_time") == [
        ({"method": "asvd_alloc"}, {"allocation/seconds": 60 * theirs}),
        ({"method": "flra"}, {"allocation/seconds": 60 * ours, "allocation/speedup": times}),
    ]


@needs_paper
def test_the_rate_of_the_ablation_is_the_texts() -> None:
    assert "with a 20% compression rate" in section(PAPER.read_text("utf-8"), "Appendix E")


# --- Claims.


def section(text: str, place: str) -> str:
    """The text under a heading: Abstract, Section 4.2, Appendix B."""
    if caption := re.fullmatch(r"Caption of (\w+ \d+)", place):
        return next(line for line in text.splitlines() if line.startswith(f"{caption[1]}:"))
    name = re.escape(re.sub("^(Section|Appendix) ", "", place))
    found = re.findall(rf"^#+ {name}\b(?!\.\d).*\n((?:(?!#+ ).*\n?)*)", text, flags=re.MULTILINE)
    assert len(found) == 1, f"{place} is not a unique place in the paper"
    return str(found[0])


def claims() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for study in PUBLISHED:
        for claim in load(study, "expected")["claims"]:
            yield study, str(claim.get("value", claim["place"])), claim


def stands_in(value: float, text: str) -> bool:
    return bool(re.search(rf"(?<![\d.]){re.escape(f'{value:g}')}(?!\.?\d)", text))


@needs_paper
@pytest.mark.parametrize(
    "claim",
    [pytest.param(claim, id=f"{s}-{i}") for s, i, claim in claims() if s != "skipcat"],
)
def test_the_number_of_a_claim_stands_where_it_says(claim: dict[str, Any]) -> None:
    text = section(PAPER.read_text("utf-8"), claim["place"])
    assert text.strip()
    if "value" in claim:
        assert stands_in(claim["value"], text)


@needs_skipcat
@pytest.mark.parametrize(
    "claim", [pytest.param(claim, id=f"{s}-{i}") for s, i, claim in claims() if s == "skipcat"]
)
def test_the_number_of_a_skipcat_claim_stands_where_it_says(claim: dict[str, Any]) -> None:
    summary, abstract = SKIPCAT.read_text("utf-8").split("Abstract\n")
    text = {"Summary": summary, "Abstract": abstract}[claim["place"]]
    if "value" in claim:
        assert stands_in(claim["value"], text)
