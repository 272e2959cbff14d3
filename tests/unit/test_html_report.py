"""The HTML report: self-contained, escaped, and every number links to its run."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import records_factory as factory
from rich.console import Console

from flrc.errors import UserError
from flrc.reporting import main
from flrc.results.pages import html
from flrc.results.pages.readme import first_paragraph, heading
from flrc.results.pages.references import References
from flrc.results.pages.run_page import page_of_run
from flrc.results.records.record import Record
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RunFolder
from flrc.results.tables.columns import Column
from flrc.results.tables.grid import Cell, Grid, Row
from flrc.results.tables.section import Section

VOID = {"meta", "link", "img", "br"}
EVIL = '<script>document.title = "taken"</script><img src=x onerror="alert(1)"> & more'


@dataclass
class Node:
    """An element."""

    tag: str
    attributes: dict[str, str | None]
    parent: Node | None = None
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str, **wanted: str) -> list[Node]:
        """Descendants of this tag with these attributes."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if child.tag == tag and all(
                    child.attributes.get(k) == v for k, v in wanted.items()
                ):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    def within(self) -> list[Node]:
        """All descendants."""
        nodes = [child for child in self.children if isinstance(child, Node)]
        return nodes + [below for node in nodes for below in node.within()]

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return " ".join("".join(parts).split())


class Tree(HTMLParser):
    """The page as a tree; an element that is closed in the wrong place is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.open = Node("", {})
        self.feed(text)
        self.close()
        assert self.open is self.root, f"{self.open.tag} is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs), self.open)
        self.open.children.append(node)
        if tag not in VOID:
            self.open = node

    def handle_endtag(self, tag: str) -> None:
        assert self.open.tag == tag
        assert self.open.parent is not None
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        self.open.children.append(data)


def write(folder: Path, record: Record) -> RunFolder:
    run = RunFolder(folder / str(record.run["id"]))
    run.write_record(record)
    return run


def generated(method: str, settings: dict[str, Any], **changes: Any) -> Record:
    measured = [factory.measurement("dialogsum/rougeL", 12.0, 0.2, settings=settings)]
    return factory.record(method, 0.2, measurements=measured, **changes)


def keep(run: RunFolder, settings: dict[str, Any], replies: dict[str, str]) -> None:
    items = [{"id": i, "reply": reply, "rougeL": 10.0} for i, reply in replies.items()]
    run.write_json(
        "evaluations/summarization.dialogsum-1.json",
        {"evaluation": "summarization", "part": "dialogsum", "settings": settings, "items": items},
    )


def read(root: Path, tmp_path: Path, data: Path | None = None) -> Node:
    page_file = html.write_report(root, tmp_path / "out" / "report.html", References(data))
    return Tree(page_file.read_text("utf-8")).root


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Node]:
    """Two studies: one of the factory's sweep, with a failed run, and one that has a README."""
    root = tmp_path_factory.mktemp("experiments")
    for record in factory.sweep():
        write(root / "sweep" / "results", record)
    write(root / "second" / "results", factory.record("dense"))
    write(root / "second" / "results", factory.record("kfac", 0.3))
    (root / "second" / "README.md").write_text(
        "# The second <study>\n\nWhat it *shows*: [a page](x.md) & more.\n\n| a | b |\n", "utf-8"
    )
    (root / "notes").mkdir()  # not a study: it has no results
    text = html.write_report(root, root / "report.html").read_text("utf-8")
    return text, Tree(text).root


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "figures", lambda *_: [])


def study_tables(root: Node) -> list[Node]:
    return [t for t in root.all("table") if "study" in str(t.attributes["class"]).split()]


def test_every_number_leads_to_its_run(report: tuple[str, Node]) -> None:
    root = report[1]
    ids = [str(n.attributes["id"]) for n in root.within() if "id" in n.attributes]
    assert len(ids) == len(set(ids))
    linked = 0
    for table in study_tables(root):
        labels = len(table.all("th", rowspan="2"))
        for row in table.all("tbody")[0].all("tr"):
            method = row.all("th")[0].text
            for cell in row.all("td")[labels - 1 :]:  # the method is a th
                links = cell.all("a")
                assert bool(links) == (not cell.text.startswith("\u2013")), cell.text
                for link in links:
                    linked += 1
                    target = str(link.attributes["href"]).removeprefix("#")
                    (section,) = root.all("section", id=target)
                    assert section.all("h3")[0].text.startswith(f"{method} at rate ")
    assert linked > 100


def test_links_of_several_seeds(report: tuple[str, Node]) -> None:
    """Three seeds of svdllm: a link for each, and each to another run."""
    cells = [cell for cell in study_tables(report[1])[1].all("td") if "±" in cell.text]
    assert cells
    for cell in cells:
        targets = {link.attributes["href"] for link in cell.all("a")}
        assert len(targets) == 3


def test_a_run_is_shown_completely(report: tuple[str, Node]) -> None:
    record = factory.record("kfac", 0.3)
    (section,) = report[1].all("section", id=f"run-{record.run['id']}")
    text = section.text
    for needed in (
        record.meta["command"],
        record.meta["git"]["commit"],
        "torch 2.13.0",
        "sha256:feed",
        "sha256:beef",
        "windows=8, length=2048",
        "decomposition: name: kfac",
        "perplexity wikitext2",
    ):
        assert needed in text, needed
    assert "No reply is kept with this record." in text
    assert "Layers (2)" in [summary.text for summary in section.all("summary")]
    layers = [pre for pre in section.all("pre", **{"class": "rows"}) if "rank" in pre.text]
    assert len(layers) == 1
    titles, *rows = [line.split("\t") for line in layers[0].children[0].strip().splitlines()]
    assert titles[:3] == ["target (block.0....)", "shape", "rank"]
    assert [row[0] for row in rows] == ["q_proj", "k_proj"]
    assert {len(row) for row in rows} == {len(titles)}


def test_failed_runs_are_named(report: tuple[str, Node]) -> None:
    failed = factory.record("kfac", 0.4, status="failed")
    (section,) = report[1].all("section", id=f"run-{failed.run['id']}")
    assert "failed in decomposition: UserError: no room_left 100%" in section.text
    (study,) = report[1].all("section", id="study-sweep")
    assert f"Not finished: kfac at 0.4 ({failed.run['id']})" in study.text


def test_studies_and_their_readme(report: tuple[str, Node]) -> None:
    root = report[1]
    assert [n.attributes["id"] for n in root.all("section", **{"class": "study"})] == [
        "study-second",
        "study-sweep",
    ]
    (second,) = root.all("section", id="study-second")
    assert second.all("h2")[0].text == "The second <study>"
    assert second.all("p")[0].text == "What it shows: a page & more."
    index = root.all("nav")[0].all("a")
    assert [a.attributes["href"] for a in index] == ["#study-second", "#study-sweep", "#runs"]


def test_nothing_is_loaded(report: tuple[str, Node]) -> None:
    text, root = report
    for node in root.within():
        source, target = node.attributes.get("src"), node.attributes.get("href")
        assert source is None or source.startswith(
            ("data:image/png;base64,", "data:image/svg+xml,")
        )
        if target is not None and node.tag == "a":
            assert target.startswith(("#", "https://arxiv.org/abs/"))
        if node.tag == "link":
            assert target == "data:,"
        assert not {name for name in node.attributes if name.startswith("on") or name == "style"}
    style = "".join(node.text for node in root.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    images = root.all("img")
    assert images
    assert all(len(str(image.attributes["alt"])) > 20 for image in images)
    assert "http://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for image in images:
        inside = unquote(str(image.attributes["src"])).partition("svg+xml,")[2]
        if inside:
            referred = re.findall(r'(?:href|src)="(.)|url\((.)', inside)
            assert {one or other for one, other in referred} <= {"#"}  # its own parts
            assert not re.search(r"<style|<script|\sstyle=|\son\w+=", inside)
    assert "https://" not in text.replace("https://arxiv.org/abs/", "")


def test_the_policy_allows_our_script_and_style_only(report: tuple[str, Node]) -> None:
    text, root = report
    (policy,) = root.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(maxsplit=1) for rule in policy.attributes["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashed = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{hashed}'"


def test_tables_can_be_sorted(report: tuple[str, Node]) -> None:
    text, root = report
    assert "function sortBy" in text
    for table in root.all("table"):
        assert "sortable" in str(table.attributes["class"])
        columns = [th.attributes["data-column"] for th in table.all("th") if
                   "data-column" in th.attributes]  # fmt: skip
        assert sorted(columns, key=int) == [str(k) for k in range(len(columns))]
        for row in table.all("tbody")[0].all("tr"):
            assert len(row.all("td")) + len(row.all("th")) == len(columns)
        assert table.parent is not None
        assert table.parent.attributes["class"] == "scroll"
    for rows in root.all("pre", **{"class": "rows"}):  # the script makes tables of them
        assert rows.parent is not None
        assert rows.parent.attributes["class"] == "scroll"


@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's script in node")
def test_order_of_cells() -> None:
    cells = [
        "2.5M",
        "\u2013",
        "10.0 ± 3",
        "900k",
        "nan",
        "9.5",
        "1.0e-03",
        "flra",
        "610bc0214c",
        "",
    ]
    script = (
        (html.PAGE / "report.js").read_text("utf-8")
        + f"""
    const cells = {json.dumps(cells)};
    const sorted = (direction) => [...cells].sort(
      (a, b) => compareKeys(sortKey(a), sortKey(b), direction));
    console.log(JSON.stringify([sorted(1), sorted(-1)]));
    """
    )
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    up, down = json.loads(done.stdout)
    numbers = ["1.0e-03", "9.5", "10.0 ± 3", "900k", "2.5M"]
    assert up[:7] == [*numbers, "610bc0214c", "flra"]
    assert down[:7] == [*up[:7]][::-1]
    assert set(up[7:]) == set(down[7:]) == {"", "nan", "\u2013"}


@pytest.mark.usefixtures("without_plots")
def test_replies_beside_those_of_the_dense_model(tmp_path: Path) -> None:
    written = tmp_path / "data" / "dialogsum" / "test.jsonl"
    written.parent.mkdir(parents=True)
    rows = [{"id": f"test_{k}", "dialogue": "?", "summary": f"as expected {k}"} for k in range(12)]
    written.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    settings = {"dataset": "dialogsum", "limit": 8, "split": "test", "data": digest}
    runs = tmp_path / "runs"
    ids = [f"test_{k}" for k in (10, 9, 2, 1, 0, 11, 3)]
    dense = write(runs, generated("dense", settings))
    keep(dense, settings, {i: f"dense says {i}" for i in ids})
    other = write(runs, generated("dense", settings, model="llama"))
    keep(other, settings, {i: "another model's" for i in ids})
    mine = write(runs, record := generated("kfac", settings))
    keep(mine, settings, {i: EVIL for i in ids})
    later = write(runs, elsewhere := generated("svdllm", {"limit": 9}))
    keep(later, {"limit": 9}, {"test_0": "alone"})
    root = read(runs, tmp_path, tmp_path / "data")

    (section,) = root.all("section", id=f"run-{record.run['id']}")
    samples = section.all("article")
    shown = [sample.all("h5")[0].text.split()[0] for sample in samples]
    assert shown == ["test_0", "test_1", "test_2", "test_3", "test_9"]
    texts = [quote.text for quote in samples[0].all("blockquote")]
    assert texts == ["dense says test_0", EVIL, "as expected 0"]
    assert "--data DIR" not in section.text
    assert len(root.all("script")) == 1  # ours
    assert not root.all("img")
    (section,) = root.all("section", id=f"run-{elsewhere.run['id']}")
    assert [quote.text for quote in section.all("blockquote")] == ["alone"]
    assert "are not among these runs" in section.text
    assert "--data DIR" in section.text  # another data set's settings: no reference of this one

    written.write_text(written.read_text("utf-8").replace("expected 0", "changed"), "utf-8")
    root = read(runs, tmp_path, tmp_path / "data")
    (section,) = root.all("section", id=f"run-{record.run['id']}")
    assert [quote.text for quote in section.all("blockquote")][:2] == ["dense says test_0", EVIL]
    assert "changed" not in root.text  # not the data that the run read
    with pytest.raises(UserError, match="does not exist"):
        References(tmp_path / "nowhere")


@pytest.mark.usefixtures("without_plots")
def test_kept_samples(tmp_path: Path) -> None:
    settings = {"limit": 8}
    for method in ("dense", "kfac"):
        run = write(tmp_path / "runs", record := generated(method, settings))
        run.write_json("samples.json", {"dialogsum": [{"id": "a", "reply": f"of {method}"}]})
    root = read(tmp_path / "runs", tmp_path)
    (section,) = root.all("section", id=f"run-{record.run['id']}")
    assert [quote.text for quote in section.all("blockquote")] == ["of dense", "of kfac"]


@pytest.mark.usefixtures("without_plots")
def test_everything_a_record_says_is_escaped(tmp_path: Path) -> None:
    record = factory.record("kfac", config={"data": {"root": EVIL}}, components={"form": EVIL})
    record.meta["command"] = EVIL
    record.results["layers"][0]["target"] = EVIL
    record.results["rescues"] = [{"target": EVIL, "what": EVIL}]
    record.results["measurements"][0]["settings"] = {"note": EVIL}
    write(tmp_path / "runs", record)
    root = read(tmp_path / "runs", tmp_path)
    assert len(root.all("script")) == 1
    assert not root.all("img")
    assert root.text.count('document.title = "taken"') >= 6


@pytest.mark.usefixtures("without_plots")
def test_one_id_in_two_folders(tmp_path: Path) -> None:
    """The same record is one section; other measurements of the same run are another."""
    record, again = factory.record("kfac"), factory.record("kfac")
    again.results["measurements"][0]["value"] = 1234.0
    for study, given in (("a", record), ("b", record), ("c", again)):
        write(tmp_path / "all" / study / "results", given)
    root = read(tmp_path / "all", tmp_path)
    anchor = f"run-{record.run['id']}"
    assert [node.attributes["id"] for node in root.all("section", **{"class": "run"})] == [
        anchor,
        f"{anchor}-2",
    ]
    targets = [table.all("a")[0].attributes["href"] for table in study_tables(root)]
    assert targets == [f"#{anchor}", f"#{anchor}", f"#{anchor}-2"]
    assert "1234" in root.all("section", id=f"{anchor}-2")[0].text


@pytest.mark.usefixtures("without_plots")
def test_equal_weights_under_two_labels_lead_to_their_own_runs(tmp_path: Path) -> None:
    for label, value in (("alpha", 1111.0), ("beta", 2222.0)):
        measured = [factory.measurement("c4/perplexity", value, 0.2)]
        record = factory.record("kfac", model=label, measurements=measured)
        record.run["id"] = "aaaa111111"
        RunFolder(tmp_path / "runs" / label / "kfac-aaaa111111").write_record(record)
    root = read(tmp_path / "runs", tmp_path)
    (table,) = study_tables(root)
    for row, value in zip(table.all("tbody")[0].all("tr"), ("1111", "2222"), strict=True):
        (link,) = [a for a in row.all("a") if value in a.text]
        anchor = str(link.attributes["href"]).removeprefix("#")
        assert value in root.all("section", id=anchor)[0].text


@pytest.mark.usefixtures("without_plots")
def test_mixed_settings_are_tables_of_their_own(tmp_path: Path) -> None:
    for windows in (4, 8):
        values = [factory.measurement("c4/perplexity", 9, 0.2, settings={"windows": windows})]
        write(tmp_path / "runs", factory.record("kfac", measurements=values, seed=windows))
    root = read(tmp_path / "runs", tmp_path)
    assert len(study_tables(root)) == 2
    (study,) = root.all("section", id="study-runs")
    assert [h.text for h in study.all("h3")] == ["windows=4", "windows=8"]
    assert {"c4: windows=4", "c4: windows=8"} <= {line.text for line in study.all("li")}


def test_other_folders_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[float]] = []

    def figures(groups: Any, *_: Any) -> list[Any]:
        drawn.extend([r.run["config"]["rate"] for r in group] for group in groups)
        return []

    monkeypatch.setattr(html, "figures", figures)
    study = tmp_path / "all" / "one"
    write(study / "results", factory.record("kfac", 0.2))
    write(study / "axis", factory.record("kfac", 0.3))
    root = read(tmp_path / "all", tmp_path)
    assert [h.text for h in root.all("section", id="study-one")[0].all("h3")] == ["axis"]
    assert drawn == [[0.2], [0.3]]  # numbers of two tables never share a plot
    assert len(study_tables(root)) == 2


@pytest.mark.usefixtures("without_plots")
def test_a_study_that_lays_out_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = factory.record("kfac")
    study = tmp_path / "all" / "one"
    write(study / "results", record)
    grid = Grid(
        ["method"],
        [Column("x", "WikiText-2", "PPL", "perplexity", False), Column("y", "paper", "PPL", "")],
        [Row(["ours"], [Cell("7.25", best=True, runs=[key_of(record)]), Cell("7.10", note=1)])],
        ["as printed"],
    )
    sections = [
        Section("Table 3", ["What stands below."], grid),
        Section("Words", ["No table."]),
    ]
    own: dict[Path, list[Section]] = {}
    monkeypatch.setattr(html, "read_study", own.get)
    monkeypatch.setattr(html, "sections_of", lambda study: study)
    monkeypatch.setattr(html, "names_of", lambda *_: None)
    assert [h.text for h in read(tmp_path / "all", tmp_path).all("h3")][:1] != ["Table 3"]
    own[study] = sections
    root = read(tmp_path / "all", tmp_path)
    assert [h.text for h in root.all("section", id="study-one")[0].all("h3")] == [
        "Table 3",
        "Words",
    ]
    (table,) = study_tables(root)
    ours, paper = table.all("td")
    assert ours.all("a")[0].attributes["href"] == f"#run-{record.run['id']}"
    assert "best" in str(ours.attributes["class"])
    assert not paper.all("a")
    assert paper.all("sup")[0].text == "1"


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "figures", lambda *_: [])
    runs, console = tmp_path / "runs", Console(file=io.StringIO())
    write(runs, factory.record("kfac"))
    page_file, output = tmp_path / "new" / "r.html", tmp_path / "tables"
    arguments = [str(runs), "--html", str(page_file), "--output", str(output)]
    assert main(arguments, console) == 0
    assert page_file.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert not output.exists()
    assert main([*arguments, "--format", "csv"], console) == 0
    assert [path.name for path in output.iterdir()] == ["table.csv"]
    assert main([str(tmp_path / "nowhere"), "--html", str(page_file)], console) == 1
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--html", str(page_file)], console) == 1
    with pytest.raises(UserError, match="no record"):
        html.write_report(tmp_path / "empty", page_file)


def test_what_a_readme_says_first() -> None:
    text = "# Title of `it`\n\n## Below\n\n- a list\n\n    code\n\nOne **two**\nthree.\n\nFour."
    assert heading(text) == "Title of it"
    assert first_paragraph(text) == "One two three."
    assert heading("") == first_paragraph("# only a heading") == ""


def test_a_command_can_be_typed() -> None:
    record = factory.record("kfac")
    record.meta["command"] = "run.py method=kfac"
    assert (
        page_of_run("run-x", record, [], [], References())["command"] == "python run.py method=kfac"
    )
    record.meta["command"] = "python run.py method=kfac"
    assert (
        page_of_run("run-x", record, [], [], References())["command"] == "python run.py method=kfac"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12.3", True), ("1.2e-03", True), ("134.5M", True), ("20.1 ± 0.3", True), ("+0.2", True),
     ("flra", False), ("610bc0214c", False), ("0.043, 0.243", False), ("", False)],
)  # fmt: skip
def test_numbers_stand_on_the_right(text: str, expected: bool) -> None:
    assert html.is_numeric(text) is expected
