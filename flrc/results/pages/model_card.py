"""The model card of a checkpoint: ``README.md`` with the header that the Hub reads."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from flrc.core import jsonfile
from flrc.data.dataset_catalog import DATASETS
from flrc.models.checkpoints.manifest import FILE, RECORD
from flrc.models.sources.weight_headers import header_of
from flrc.results.pages.papers import PAPERS
from flrc.results.records.healing import healing_of
from flrc.results.records.made_by import maker
from flrc.results.records.mean_name import MEAN, OF
from flrc.results.records.measurement import Measurement
from flrc.results.records.neutral import is_neutral
from flrc.results.records.record import Record
from flrc.results.records.rows import listed, measurements
from flrc.results.records.sharing import shareable
from flrc.results.records.store import model_name
from flrc.results.tables.columns import dataset, is_sample
from flrc.results.tables.markdown import escape
from flrc.results.tables.notes import SAMPLE, abridged

log = logging.getLogger(__name__)

CARD = "README.md"
TASK = "text-generation"
METRIC_TYPES = {
    "acc": "accuracy",
    "acc_norm": "accuracy",
    MEAN: "accuracy",
    "rougeL": "rouge",
}
"""The Hub's types of metrics, where they are called otherwise here."""
SPEED = re.compile(r"decode(_batch\d+)?")
"""Names of what speed was measured on; it describes a machine, so the header leaves it out."""
LOADING = """    import flrc
    model = flrc.load("FOLDER")  # a copy of this folder
    print(flrc.generate(model, "Name three rivers."))

`model` is a model of transformers whose `generate` follows the schedule. Without flrc,
`AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)` loads it with the code in
`modeling_flrc.py`; read that before you trust it."""


@dataclass(frozen=True)
class Written:
    """The weights of a checkpoint.

    Attributes:
        dtype: Of the model.
        bytes: Of its tensors.
        measured: Whether they are those that the run measured.
    """

    dtype: str
    bytes: int
    measured: bool = True


def describe(folder: Path, record: Record | None, measured: bool = True) -> None:
    """Write the card of a checkpoint, and the record of a run that has ended beside it.

    Neither holds a path of this machine.

    Args:
        folder: The checkpoint.
        record: The run that made it; None if it is not known.
        measured: Whether its weights are those that the run measured.
    """
    shared = None if record is None else shareable(record)
    (folder / CARD).write_text(card_text(shared, _written(folder, measured)), encoding="utf-8")
    if shared is not None and "status" in shared.run:
        jsonfile.write(folder / RECORD, shared.to_json())


def _written(folder: Path, measured: bool) -> Written:
    manifest = jsonfile.read(folder / FILE)
    files = [folder / name for name in manifest["files"] if name.endswith(".safetensors")]
    spans = [entry["data_offsets"] for file in files for entry in header_of(file).values()]
    return Written(manifest["dtype"], sum(end - begin for begin, end in spans), measured)


def record_of(folder: Path) -> Record | None:
    """The record beside a checkpoint; None if it is missing, or damaged (which is logged)."""
    if not (folder / RECORD).exists():
        return None
    try:
        return Record.from_json(jsonfile.read(folder / RECORD))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read and counts as missing: %s", folder / RECORD, error)
        return None


def card_text(record: Record | None, written: Written) -> str:
    """The text of a card; the checkpoint's record has been made shareable."""
    if record is None:
        header = ModelCardData(library_name="transformers", pipeline_tag=TASK, tags=_tags(None))
        unknown = "The checkpoint was saved without the record of the run that made it."
        parts = ["# Compressed model", unknown, "## Load it", LOADING]
    else:
        header, parts = _header(record, written), _body(record, written)
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def _header(record: Record, written: Written) -> ModelCardData:
    base = record.meta.get("base_model") or {}
    measured = record.measurements if written.measured else []
    results = [_result(m) for m in measured if _is_quality(m)]
    # No field is set without a value: the Hub would show an empty one.
    known = {"base_model": base.get("id"), "license": base.get("license")}
    if results:
        known |= {"model_name": _title(record), "eval_results": results}
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=_tags(record),
        **{key: value for key, value in known.items() if value},
    )


def _tags(record: Record | None) -> list[str]:
    tags = ["flrc", "low-rank", "compression"]
    if record is not None:
        quantization = record.run["components"].get("quantization", "none")
        tags += [str(record.run["method"])] + [quantization] * (quantization != "none")
    return list(dict.fromkeys(tags))


def _is_quality(m: Measurement) -> bool:
    speed = SPEED.fullmatch(dataset(m.name)) is not None
    return math.isfinite(m.value) and not is_neutral(m.name) and not speed


def _result(m: Measurement) -> EvalResult:
    name, metric = dataset(m.name), m.name.rpartition("/")[2]
    spec = DATASETS.get(name)
    counts = {
        key: value
        for key, value in m.settings.items()
        if isinstance(value, int) and not isinstance(value, bool) and key != "version"
    }
    return EvalResult(
        task_type=TASK,
        dataset_type=spec.hub_path if spec else name,
        dataset_name=name,
        dataset_config=spec.hub_config if spec else None,
        dataset_split=m.settings.get("split"),
        dataset_args=counts or None,
        metric_type=METRIC_TYPES.get(MEAN if metric.startswith(OF) else metric, metric),
        metric_name=metric,
        metric_value=float(f"{m.value:.6g}"),
    )


def _title(record: Record) -> str:
    return f"{model_name(record)}, {record.run['method']} at {_percent(record)}"


def _percent(record: Record) -> str:
    return f"{100 * float(record.run['config']['rate']):g} %"


def _body(record: Record, written: Written) -> list[str]:
    run, base = record.run, record.meta.get("base_model") or {}
    origin = f"[{base['id']}](https://huggingface.co/{base['id']})" if base.get("id") else ""
    opening = (
        f"{origin or model_name(record)}, compressed by flrc with the method `{run['method']}`: a "
        f"forward step does not use {_percent(record)} of the parameters of its linear layers."
    )
    return [
        f"# {_title(record)}",
        opening,
        "## Load it",
        LOADING,
        "## Size",
        "\n".join(_sizes(record, written)),
        "## Measured",
        *_measured(record, written),
        "## How it was made",
        *_made(record, written),
    ]


def _sizes(record: Record, written: Written) -> list[str]:
    sizes, counts = record.results["bytes"], record.results["parameters"]
    before = record.meta.get("dtype")
    dtypes = f" ({before}, here {written.dtype})" if _converted(record, written) else ""
    rows = [
        (f"model, bytes{dtypes}", sizes["model_dense"], written.bytes),
        ("model, numbers stored", counts["model_dense"], counts["model_stored"]),
        ("compressed layers, numbers stored", counts["targets_dense"], counts["targets_stored"]),
        ("compressed layers, used by a step", counts["targets_dense"], counts["targets_activated"]),
    ]
    lines = [f"| {name} | {dense:,} | {stored:,} |" for name, dense, stored in rows]
    return ["| | dense | compressed |", "| --- | ---: | ---: |", *lines]


def _converted(record: Record, written: Written) -> bool:
    return record.meta.get("dtype") not in (None, written.dtype)


def _measured(record: Record, written: Written) -> list[str]:
    if not written.measured:
        converted = _converted(record, written)
        how = f" from {record.meta['dtype']} to {written.dtype}" if converted else ""
        return [
            f"Nothing on these weights: they were changed{how} after run {record.run['id']}, whose "
            "numbers were measured on other weights."
        ]
    if not record.measurements:
        return ["Nothing: the run that made this checkpoint evaluated nothing."]
    rows = measurements(record.measurements)
    settings = [listed(m.settings, abridged) for m in record.measurements]
    shown = [[*row[:-1], text] for row, text in zip(rows.rows, settings, strict=True)]
    lines = [rows.titles, ["---"] * len(rows.titles), *shown]
    parts = ["\n".join(f"| {' | '.join(escape(str(cell)) for cell in line)} |" for line in lines)]
    return parts + [SAMPLE] * any(is_sample(m.name) for m in record.measurements)


def _made(record: Record, written: Written) -> list[str]:
    run, meta = record.run, record.meta
    phases = [
        f"{100 * phase['realised']:.1f} % "
        + (f"from step {phase['step']}" if "step" in phase else f"from {phase.get('begin', 0):g}")
        for phase in record.results.get("phases", [])
    ]
    lines = [f"- {slot}: {name}" for slot, name in run["components"].items()]
    dtype = f"{meta.get('dtype')}" + f", here {written.dtype}" * _converted(record, written)
    lines.append(f"- seed: {run['seed']}; dtype: {dtype}; run: {run['id']}")
    if len(phases) > 1:
        lines.append(f"- share of parameters that is not used, by phase: {', '.join(phases)}")
    if (healed := healing_of(record)) is not None:
        lines.append(f"- healing, {healed}")
    lines += _tuned(record.results.get("healing", {}))
    papers = PAPERS.get(str(run["method"]), ())
    lines.append(f"- source: {'; '.join(papers) or 'a combination without a paper of its own'}")
    versions = meta.get("versions") or {}
    lines.append("- versions: " + ", ".join(f"{name} {v}" for name, v in versions.items()))
    commands = [f"The command:\n\n    {maker(meta)}"]
    if maker(meta) != meta.get("command") and record.measurements and written.measured:
        commands.append(f"The command that measured:\n\n    {meta['command']}")
    held = "every setting and number" + " of that run" * (not written.measured)
    return ["\n".join(lines), *commands, f"`{RECORD}` holds {held}."]


def _tuned(healing: dict[str, Any]) -> list[str]:
    """What was done after the run; what the run did itself is among its components."""
    if "sequences" not in healing:
        return []
    counts = healing["sequences"]
    made = healing.get("distilled", {}).get("generated", 0)
    generated = f", and {made:,} tokens generated by the dense model" if made else ""
    return [
        f"- then tuned by `flrc.heal` on {counts['tuned_on']} other sequences, with "
        f"{counts['held_out']} more held out: {healing['tokens']:,} tokens{generated}"
    ]
