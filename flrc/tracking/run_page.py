"""The page of one run: its configuration, measurements, layers and generated samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flrc.results.pages.samples import natural
from flrc.results.records.checkpoint_places import without_places
from flrc.results.records.record import Record
from flrc.results.records.rows import Rows
from flrc.results.records.run_key import key_of
from flrc.results.records.store import RunFolder, model_name
from flrc.results.studies import manifest
from flrc.results.studies.manifest import known_studies, manifest_folder
from flrc.results.tables.derived import healing
from flrc.tracking.page_ids import page_id
from flrc.tracking.pages import Page, cell, tag

SAMPLES = 8
"""Generated replies shown of each data set."""
SAMPLE_COLUMNS = ("id", "reply", "rougeL", "bertscore_f1", "dense_agreement")
"""What is shown of a reply: never the text of the data set, whose licence may not allow it."""


def run_page(record: Record, folder: Path) -> Page:
    """The page of a finished run, whose folder (``<runs>/<model>/<run>``) has the replies."""
    folder = folder.resolve()
    tables = {"layers": _layers(record), "samples": _samples(record, folder)}
    return Page(
        id=page_id(record, folder),
        name=f"{model_name(record)}/{folder.name}",
        group=record.run.get("study"),
        job_type=str(record.run["method"]),
        tags=_tags(record, folder.parent.parent),
        config=_config(record),
        summary=summary(record),
        tables={key: table for key, table in tables.items() if table.rows},
    )


def summary(record: Record) -> dict[str, Any]:
    """The scalars of a record: ``<dataset>/<metric>``, ``rate/...``, ``seconds/<stage>`` ..."""
    scalars: dict[str, Any] = {}
    for m in record.measurements:
        scalars[m.name] = m.value
        if m.stderr is not None:
            scalars[f"{m.name}_stderr"] = m.stderr
    for part in ("rate", "parameters", "bytes"):
        for key, value in record.results.get(part, {}).items():
            scalars[f"{part}/{key}"] = value
    if record.results.get("flops_per_token") is not None:
        scalars["flops_per_token"] = record.results["flops_per_token"]
    scalars |= {f"healing/{name}": value for name, (value, _) in healing(record).items()}
    for stage in record.meta.get("stages", []):
        scalars[f"seconds/{stage['name']}"] = stage.get("seconds")
        scalars[f"peak_bytes/{stage['name']}"] = stage.get("peak_bytes")
    return {name: value for name, value in scalars.items() if isinstance(value, int | float)}


def _layers(record: Record) -> Rows:
    layers = record.results.get("layers", [])
    columns = list(dict.fromkeys(key for layer in layers for key in layer))
    return Rows(columns, [[cell(layer.get(key)) for key in columns] for layer in layers])


def _samples(record: Record, folder: Path) -> Rows:
    """The first replies of every data set, in the order of their ids."""
    rows = []
    for name, values in RunFolder(folder).evaluations(record):
        if not name.startswith("summarization."):
            continue
        first = sorted(values["items"], key=lambda item: natural(str(item["id"])))[:SAMPLES]
        label = str(values["settings"]["dataset"])
        rows += [[label, *(cell(item.get(key)) for key in SAMPLE_COLUMNS)] for item in first]
    return Rows(["dataset", *SAMPLE_COLUMNS], rows)


def _config(record: Record) -> dict[str, Any]:
    """Configuration, components and meta data as plain values."""
    meta = {key: value for key, value in without_places(record.meta).items() if key != "stages"}
    return {
        **record.run.get("config", {}),
        "components": record.run.get("components"),
        "meta": meta,
    }


def _tags(record: Record, runs: Path) -> list[str]:
    """``slot:component``, and ``study:name`` for every study that the run belongs to."""
    components = record.run.get("components", {})
    return [
        *(tag(slot, name) for slot, name in components.items() if isinstance(name, str)),
        *(tag("study", name) for name in _studies(record, runs)),
    ]


def _studies(record: Record, runs: Path) -> list[str]:
    """The studies whose jobs name the run, and the one that computed it.

    A sweep writes its jobs when it ends: while it runs, only the record names the study.
    """
    names = {
        study
        for study, scale in known_studies(runs)
        for job in manifest.read(manifest_folder(runs, study, scale))
        if job.key == key_of(record)
    }
    if record.run.get("config", {}).get("scale", "none") != "none":
        names.add(str(record.run["study"]))
    return sorted(names)
