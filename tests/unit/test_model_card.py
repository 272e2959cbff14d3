"""Model cards: what the Hub reads of them, and what they do not say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records_factory as factory
import torch
from huggingface_hub import ModelCard
from tiny import CONF

import flrc
from flrc.core import jsonfile
from flrc.models.checkpoints.manifest import RECORD
from flrc.models.checkpoints.weights import weights_digest
from flrc.models.sources.base import hub_id_of
from flrc.models.sources.local import Local
from flrc.pipeline import run
from flrc.results.pages.model_card import CARD, Written, card_text, describe
from flrc.results.pages.papers import PAPERS
from flrc.results.records.record import Record
from flrc.results.records.sharing import shareable, without_paths

TEXTS = ["a fox that ran over the hill " * 4, "and slept soon after that " * 6]
FLOAT32 = Written("float32", 1000)


def measured(*measurements: dict[str, Any], **meta: Any) -> Record:
    record = factory.record("flrc", 0.2, measurements=list(measurements))
    record.meta |= meta
    return record


def test_the_header_is_what_the_hub_reads() -> None:
    wikitext = {"split": "test", "length": 2048, "windows": 4, "version": 1, "data": "ab" * 32}
    record = measured(
        factory.measurement("wikitext2/perplexity", 54.6912345, 0.2, settings=wikitext),
        factory.measurement("dialogsum/rougeL", 14.5, 0.19, stderr=0.7),
        factory.measurement("dialogsum/rate", 0.19, 0.19),
        factory.measurement("sotu_modern/perplexity", math.inf, 0.2),
        factory.measurement("decode_batch8/tokens_per_second", 40.0, 0.2),
        base_model={"id": "owner/name", "license": "apache-2.0"},
    )
    card = ModelCard(card_text(record, FLOAT32))
    header = card.data
    assert (header.base_model, header.license) == ("owner/name", "apache-2.0")
    assert (header.library_name, header.pipeline_tag) == ("transformers", "text-generation")
    assert {"flrc", "low-rank"} <= set(header.tags)
    results = {(r.dataset_name, r.metric_name): r for r in header.eval_results}
    assert set(results) == {("wikitext2", "perplexity"), ("dialogsum", "rougeL")}
    result = results["wikitext2", "perplexity"]
    assert result.dataset_type == "Salesforce/wikitext"
    assert (result.dataset_config, result.dataset_split) == ("wikitext-2-raw-v1", "test")
    assert result.dataset_args == {"length": 2048, "windows": 4}
    assert result.metric_value == 54.6912
    assert results["dialogsum", "rougeL"].metric_type == "rouge"
    assert "arXiv:2510.09332" in card.text
    assert "python run.py method=flrc rate=0.2" in card.text
    assert "flrc.load(" in card.text


def test_what_is_unknown_is_left_out() -> None:
    header = ModelCard(card_text(measured(), FLOAT32)).data.to_dict()
    assert not {"license", "base_model", "model-index"} & header.keys()
    assert "evaluated nothing" in card_text(measured(), FLOAT32)
    assert ModelCard(card_text(None, FLOAT32)).data.library_name == "transformers"


def test_sample_data_keeps_its_name() -> None:
    text = card_text(measured(factory.measurement("sotu_modern/perplexity", 9, 0.2)), FLOAT32)
    (result,) = ModelCard(text).data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("sotu_modern", "sotu_modern")
    assert "not benchmark numbers" in text
    assert "wikitext" not in text


def test_every_method_has_its_source() -> None:
    presets = {path.stem for path in (CONF / "method").glob("*.yaml")}
    assert presets == PAPERS.keys()
    readme = (CONF.parent / "README.md").read_text("utf-8")
    for method, sources in PAPERS.items():
        (row,) = re.findall(rf"^\| `{method}` \|.*$", readme, re.MULTILINE)
        for number in re.findall(r"arxiv.org/abs/([\d.]+)", row):
            assert any(number in source for source in sources), method


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("run.py model.path=/home/me/m data.root=../data", "run.py model.path=m data.root=data"),
        ("flrc.run('paths.runs=~/runs/x', 'rate=0.2')", "flrc.run('paths.runs=x', 'rate=0.2')"),
        (r"path=C:\Users\me\m.gguf", "path=m.gguf"),
        ("meta-llama/Llama-3-8B https://a.b/c evaluation=[a,b]",
         "meta-llama/Llama-3-8B https://a.b/c evaluation=[a,b]"),
        ("runs/model/id", "runs/model/id"),
        ("torch 2.13.0 / 2", "torch 2.13.0  2"),
    ],
)  # fmt: skip
def test_paths_are_left_out(given: str, left: str) -> None:
    assert without_paths(given) == left


def test_a_shareable_record_keeps_everything_else() -> None:
    config = {"paths": {"runs": "/home/me/runs"}, "data": {"name": "folder", "root": "/home/me/d"}}
    record = factory.record("kfac", config=config, error="in /home/me/x.py")
    shared = shareable(record)
    assert "/home" not in str(shared.to_json())
    assert "/home" in str(record.to_json())
    assert "paths" not in shared.run["config"]
    assert shared.run["config"]["data"] == {"name": "folder", "root": "d"}
    assert shared.results == record.results


def test_where_a_model_comes_from(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--a-name" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    assert hub_id_of(snapshot) == "owner/a-name"
    assert Local(path=str(snapshot)).origin() == {"id": "owner/a-name"}
    (snapshot / CARD).write_text("---\nlicense: mit\n---\nA model.\n")
    assert Local(path=str(snapshot)).origin() == {"id": "owner/a-name", "license": "mit"}
    (snapshot / CARD).write_text("---\nlicense: [: odd\n---\n")
    assert Local(path=str(snapshot)).origin() == {"id": "owner/a-name"}
    assert Local(path=str(tmp_path)).origin() == {}


def test_a_run_that_saves_writes_its_card_twice(run_config: Callable[..., Any]) -> None:
    config = run_config("method=svdllm", "rate=0.3", "model.save=true")
    record = run(config)
    assert record.run["status"] == "ok"
    (folder,) = Path(config.paths.runs).rglob("flrc.json")
    text = (folder.parent / CARD).read_text()
    header = ModelCard(text).data
    assert len(header.eval_results) == len(
        [m for m in record.measurements if not m.name.endswith("/rate")]
    )
    assert str(Path(config.paths.runs).parent) not in text
    model = flrc.load(folder.parent, "cpu")
    assert model.flrc.record.results["measurements"] == record.results["measurements"]
    (folder.parent / CARD).write_text("my own words")  # an edited card does not matter
    assert flrc.load(folder.parent, "cpu").flrc.record == model.flrc.record


def test_a_saved_model_has_card_and_record(
    make_model: Callable[..., Any],
    tokenizer: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, record = flrc.compress(
        make_model(), tokenizer, method="svdllm", calibration=TEXTS,
        overrides=[f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"],
    )  # fmt: skip
    flrc.save(model, tmp_path / "kept")
    text = (tmp_path / "kept" / CARD).read_text()
    assert ModelCard(text).data.tags == ["flrc", "low-rank", "compression", "svdllm"]
    assert f"{record.results['bytes']['model_stored']:,}" in text
    for file in (CARD, RECORD):
        assert str(tmp_path) not in (tmp_path / "kept" / file).read_text()
    (tmp_path / "kept" / RECORD).write_text("{")
    assert flrc.load(tmp_path / "kept", "cpu").flrc.record is None
    assert "counts as missing" in caplog.text
    describe(tmp_path / "kept", None)
    assert "without the record" in (tmp_path / "kept" / CARD).read_text()


def test_the_card_of_changed_weights_has_none_of_the_runs_numbers(
    run_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = run_config("method=svdllm", "rate=0.3", "model.save=true")
    record = run(config)
    (saved,) = Path(config.paths.runs).rglob("flrc.json")
    model = flrc.load(saved.parent, "cpu")
    flrc.save(model, tmp_path / "same")
    assert (tmp_path / "same" / CARD).read_text() == (saved.parent / CARD).read_text()
    stored = record.results["bytes"]["model_stored"]
    assert f"{stored:,} |" in (tmp_path / "same" / CARD).read_text()

    flrc.save(model.to(torch.bfloat16), tmp_path / "half")
    text = (tmp_path / "half" / CARD).read_text()
    assert ModelCard(text).data.eval_results is None
    assert f"from float32 to bfloat16 after run {record.run['id']}" in text
    assert "dtype: float32, here bfloat16" in text
    dense = record.results["bytes"]["model_dense"]
    assert f"| model, bytes (float32, here bfloat16) | {dense:,} | {stored // 2:,} |" in text
    # Nothing brings the numbers back: the record says which weights they belong to.
    flrc.save(flrc.load(tmp_path / "half", "cpu"), tmp_path / "again")
    assert (tmp_path / "again" / CARD).read_text() == text

    trained = flrc.load(saved.parent, "cpu")
    trained.lm_head.weight.data[3, 4] += 1e-3  # torch does not count such a change
    flrc.save(trained, tmp_path / "trained")
    text = (tmp_path / "trained" / CARD).read_text()
    assert ModelCard(text).data.eval_results is None
    assert f"they were changed after run {record.run['id']}" in text
    assert "bfloat16" not in text
    trained.lm_head.weight.data.copy_(flrc.load(saved.parent, "cpu").lm_head.weight)
    flrc.save(trained, tmp_path / "trained")
    assert (tmp_path / "trained" / CARD).read_text() == (saved.parent / CARD).read_text()


def test_a_checkpoint_of_an_earlier_version_keeps_its_numbers(
    run_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = run_config("method=svdllm", "rate=0.3", "model.save=true")
    run(config)
    (saved,) = Path(config.paths.runs).rglob("flrc.json")
    folder = saved.parent
    written = jsonfile.read(folder / RECORD)
    assert written["meta"].pop("weights") == weights_digest(flrc.load(folder, "cpu"))
    jsonfile.write(folder / RECORD, written)
    flrc.save(flrc.load(folder, "cpu"), tmp_path / "same")
    assert (tmp_path / "same" / CARD).read_text() == (folder / CARD).read_text()
    flrc.save(flrc.load(folder, "cpu").double(), tmp_path / "other")
    assert ModelCard((tmp_path / "other" / CARD).read_text()).data.eval_results is None
