"""``python scripts/resources_page.py docs/resources.md``: what runs take, reckoned and measured."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoConfig

from flrc.config import RunConfig, components, register
from flrc.core.demand import Rates
from flrc.core.shipped import conf_folder
from flrc.data.token_sequences import TokenSequences
from flrc.models.anatomy.model_shape import ModelShape
from flrc.models.anatomy.targets import find_targets
from flrc.models.sources.loading import model_shell
from flrc.running.dry_run import memory
from flrc.running.identity import CALIBRATION, SEARCH
from flrc.running.reckoning import Reckoning

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
MODELS = {"1 B": "llama3_2_1b", "3 B": "llama3_2_3b", "8 B": "llama3_8b"}
HEALED = {"1 B": "llama3_2_1b", "8 B": "llama3_8b", "13 B": "llama2_13b"}
METHODS = ("svdllm", "flra", "flrc", "kfac", "kfac_skip", "asvd_alloc")
SEQUENCES, LENGTH = 64, 512
SETTINGS = (
    "rate=0.2", "calibration=wikitext2", f"calibration.samples={SEQUENCES}",
    f"calibration.length={LENGTH}", "evaluation=[perplexity]", "data=hub",
)  # fmt: skip
DIALOGUE = 250
"""Tokens of a dialogue of DialogSum with its prompt, in the tokenizer of the records' model."""
PROCESS = 0.59e9
"""Bytes of a process before the model is loaded: the stage ``preflight`` of the records."""
DOUBLE, FACTORISED, CALLS = 0.5, 0.115, 314.0
"""Float64 and eigendecompositions over float32, and calls per second: see the page."""
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152,
    "tie_word_embeddings": True,
}  # fmt: skip
"""The shape of the model of the committed records."""
STAGES = {
    "statistics": "statistics of inputs",
    "output gradients": "gradients at the outputs",
    "decomposition": "decomposition",
    "sensitivity": "score",
    "allocation": "probes",
    "schedule": "search for a schedule",
    "refinement": "refinement",
    "surgery": "surgery",
    "healing": "healing",
}
SHORTEST = 3.0
"""Seconds below which a measured stage says more about the machine than about the work."""


@cache
def rates() -> Rates:
    """Throughput of the two cores of the records: the median of the rooflines that they hold."""
    found = []
    for file in sorted(EXPERIMENTS.glob("table1[12]/results/*/evaluations/efficiency.*.json")):
        items = json.loads(file.read_text("utf-8"))["items"]
        found += [item["roofline"] for item in items if "roofline" in item]
    single = statistics.median(limit["flops_per_second"] for limit in found)
    moved = statistics.median(limit["bytes_per_second"] for limit in found)
    return Rates(single, single, DOUBLE * single, FACTORISED * single, moved, CALLS)


@dataclass(frozen=True)
class Shaped:
    """A source of a model without weights."""

    shape: str
    where: str = "a shape"

    def config(self) -> Any:
        """The config of the shape."""
        from flrc.models.sources.shapes import SHAPES

        return AutoConfig.for_model(**SHAPES.get(self.shape, SMOLLM2))


@cache
def shell(shape: str, dtype: str) -> Any:
    """A model without weights, in the dtype."""
    return model_shell(Shaped(shape)).to(getattr(torch, dtype))  # type: ignore[arg-type]


@cache
def configured(method: str, *overrides: str) -> RunConfig:
    """The configuration of a run."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", overrides=[f"method={method}", *overrides])
    config = OmegaConf.to_object(composed)
    assert isinstance(config, RunConfig)
    return config


def tokens(count: int, length: int, new: int = 0) -> TokenSequences:
    """Sequences of one length; the ids are of no account."""
    return TokenSequences("a sequence", [range(length)] * count, "", new)


def reckoned(
    model: str,
    method: str,
    dtype: str,
    placement: str = "device",
    samples: int = SEQUENCES,
    memory_gb: float = 8.0,
    heal: tuple[str, ...] = (),
) -> Reckoning:
    """The reckoning of a run of the page."""
    more = f"dtype={dtype}", f"placement={placement}", f"paths.statistics_memory_gb={memory_gb}"
    config = configured(method, *SETTINGS, *more, *heal)
    reads = {CALIBRATION: tokens(samples, LENGTH)}
    if config.searches:
        search = config.search
        reads[SEARCH] = tokens(search.samples, DIALOGUE, search.max_new_tokens)  # type: ignore[attr-defined]
    for evaluation in config.evaluation.values():
        for part in evaluation.parts():
            reads[evaluation.title(part, config.data)] = tokens(2, 2048)
    weightless = shell({**MODELS, **HEALED}.get(model, model), dtype)
    targets = list(config.grouping.targets(find_targets(weightless)))
    return Reckoning(config, ModelShape.of(weightless, targets), weightless.dtype, reads)


MEASURED = (
    ("1 B", "svdllm", 1.0, 2.90, "30"),
    ("1 B", "flra", 1.0, 2.90, "30"),
    ("1 B", "kfac", 1.0, 3.85, "32"),
    ("8 B", "svdllm", 8.0, 8.34, "9 a block, of which there are 32"),
)
"""What ``tests/e2e/test_memory.py`` measured, as docs/large_models.md has it: method,
``statistics_memory_gb``, peak anonymous GiB, minutes of the run on two cores."""


def measured() -> Iterator[list[str]]:
    """A row for each run that was measured: anonymous memory, the mapped weights apart."""
    for model, method, limit, peak_gib, taken in MEASURED:
        few = reckoned(model, method, "bfloat16", samples=4, memory_gb=limit)
        stages = [stage.demand for stage in few.stages() if stage.name in STAGES]
        held = (PROCESS + max(demand.held for demand in stages)) / 2**30
        yield [model, f"`{method}`", f"{peak_gib:.2f}", f"{held:.2f}", taken]


def peak(reckoning: Reckoning, *, cuda: bool) -> tuple[float, float]:
    """Peak bytes on the host and on the device over all stages of a run."""
    pairs = [memory(reckoning, stage, PROCESS, cuda=cuda) for stage in reckoning.stages()]
    return max(host for host, _ in pairs), max(device or 0.0 for _, device in pairs)


def minutes(reckoning: Reckoning) -> float:
    """Minutes of compression (without evaluation) at :func:`rates`."""
    return sum(s.demand.seconds(rates()) for s in reckoning.stages() if s.name in STAGES) / 60


def totals() -> Iterator[list[str]]:
    """A row for each model and method."""
    for model in MODELS:
        for method in METHODS:
            on_cpu = reckoned(model, method, "float32")
            on_gpu = reckoned(model, method, "bfloat16")
            waiting = reckoned(model, method, "bfloat16", "host")
            work = [s.demand.operations for s in on_cpu.stages() if s.name in STAGES]
            yield [
                model,
                f"`{method}`",
                f"{sum(work) / 1e12:,.0f}",
                f"{2 * minutes(on_cpu):,.0f}",
                gigabytes(peak(on_cpu, cuda=False)[0]),
                gigabytes(peak(on_gpu, cuda=True)[1]),
                gigabytes(peak(waiting, cuda=True)[1]),
                gigabytes(on_cpu.disk),
            ]


def healings() -> Iterator[list[str]]:
    """A row for each model and kind of healing: of the stage alone."""
    for model in HEALED:
        for kind in (
            ("heal=distilled",),
            ("heal=distilled", "heal.optimizer=adamw_8bit"),
            ("heal=blockwise",),
        ):
            found = [
                (reckoning, stage)
                for dtype in ("float32", "bfloat16")
                for reckoning in [reckoned(model, "svdllm", dtype, heal=kind)]
                for stage in reckoning.stages()
                if stage.name == "healing"
            ]
            (on_cpu, single), (on_gpu, half) = found
            yield [
                model,
                " ".join(f"`{word}`" for word in kind),
                f"{single.demand.operations / 1e12:,.0f}",
                f"{2 * single.demand.seconds(rates()) / 60:,.0f}",
                gigabytes(single.demand.held),
                gigabytes(memory(on_cpu, single, PROCESS, cuda=False)[0]),
                gigabytes(half.demand.held),
                gigabytes(memory(on_gpu, half, PROCESS, cuda=True)[1] or 0.0),
            ]


def by_stage(model: str) -> Iterator[list[str]]:
    """A row for each stage of one model, by the method that shows it."""
    for method, shown in (
        ("flrc", ("statistics", "decomposition", "sensitivity", "schedule")),
        ("kfac_skip", ("output gradients", "refinement", "surgery")),
        ("asvd_alloc", ("allocation",)),
    ):
        on_cpu, on_gpu = reckoned(model, method, "float32"), reckoned(model, method, "bfloat16")
        for stage, other in zip(on_cpu.stages(), on_gpu.stages(), strict=False):
            if stage.name in shown:
                demand = stage.demand
                yield [
                    STAGES[stage.name],
                    f"`{method}`",
                    f"{demand.operations / 1e12:,.1f}",
                    f"{demand.moved / 1e9:,.0f}",
                    f"{2 * demand.seconds(rates()) / 60:,.0f}",
                    gigabytes(demand.held),
                    gigabytes(other.demand.held),
                ]


@dataclass(frozen=True)
class Compared:
    """A stage of a committed record: measured over reckoned."""

    stage: str
    seconds: float
    bytes: float


def compared() -> Iterator[Compared]:
    """Every stage of the default model's records that was computed, and took long enough."""
    for file in sorted(EXPERIMENTS.glob("*/results/**/record.json")):
        record = json.loads(file.read_text("utf-8"))
        config, meta = record["run"]["config"], record["meta"]
        if config["model"].get("label") != "smollm2_135m" or meta.get("threads") != 2:
            continue
        stages = [s for s in meta["stages"] if not s["cached"] and s["seconds"] >= SHORTEST]
        known = {} if not stages else _stages_of(config)
        for stage in stages:
            # In older records, statistics that were collected with the gradients.
            if stage["name"] in known:
                demand, weights = known[stage["name"]]
                yield Compared(
                    stage["name"],
                    stage["seconds"] / demand.seconds(rates()),
                    stage["peak_bytes"] / (PROCESS + weights + demand.held),
                )


def _stages_of(config: dict[str, Any]) -> dict[str, tuple[Any, float]]:
    """Demand of the stages of a recorded configuration, and the bytes of the weights."""
    groups = (
        "decomposition", "sensitivity", "allocator", "schedule", "search", "refine", "heal", "form",
    )  # fmt: skip
    parts = {group: _component(group, config.get(group, {"name": "none"})) for group in groups}
    known = SimpleNamespace(
        **parts,
        rate=config["rate"],
        compresses=parts["decomposition"].COMPRESSES and config["rate"] > 0,  # type: ignore[attr-defined]
        searches=parts["search"].SEARCHES and parts["schedule"].DIRECTION != 0,  # type: ignore[attr-defined]
        evaluation={},
        placement="device",
        paths=SimpleNamespace(**{"keep_statistics_gb": 2.0, "statistics_memory_gb": 8.0}
                              | config["paths"]),
    )  # fmt: skip
    if not known.compresses:
        return {}
    calibration, search = config["calibration"], parts["search"]
    drawn = [range(calibration["length"])] * calibration["samples"]
    drawn += [range(DIALOGUE)] * calibration.get("dialogues", 0)
    reads = {CALIBRATION: TokenSequences("a sequence", drawn, "")}
    if known.searches:
        reads[SEARCH] = tokens(search.samples, DIALOGUE, search.max_new_tokens)  # type: ignore[attr-defined]
    weightless = shell("smollm2", "float32")
    shape = ModelShape.of(weightless, find_targets(weightless))
    reckoning = Reckoning(known, shape, torch.float32, reads)  # type: ignore[arg-type]
    return {s.name: (s.demand, float(reckoning.shape.bytes)) for s in reckoning.stages()}


def _component(group: str, values: dict[str, Any]) -> Any:
    """A component of a record; one that has parts (``heal=both``) names each by its kind."""
    known = components(group)
    fields = {
        key: _component(group, value) if isinstance(value, dict) and key in known else value
        for key, value in values.items()
        if key != "version"
    }
    return known[values["name"]](**fields)


def comparison() -> Iterator[list[str]]:
    """A row for each stage: how far the reckoning is off."""
    found = list(compared())
    for name, title in STAGES.items():
        here = [one for one in found if one.stage == name]
        if here:
            spans = [_span([one.seconds for one in here]), _span([one.bytes for one in here])]
            yield [title, str(len(here)), *spans]


def _span(values: Sequence[float]) -> str:
    deciles = statistics.quantiles(values, n=10) if len(values) > 9 else [min(values), max(values)]
    return f"{statistics.median(values):.2f} ({deciles[0]:.2f} to {deciles[-1]:.2f})"


def gigabytes(size: float) -> str:
    """A size in GB with one decimal."""
    return f"{size / 1e9:,.1f}"


def table(heads: Sequence[str], rows: Iterator[list[str]], left: int) -> str:
    """A Markdown table whose first columns are aligned to the left."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    lines = [heads, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page() -> str:
    """The whole page."""
    limit = rates()
    text = (ROOT / "scripts" / "resources_page.md").read_text("utf-8")
    few = "float32, two cores: CPU min"
    return text.format(
        single=f"{limit.single / 1e9:,.0f}",
        moved=f"{limit.moved / 1e9:,.0f}",
        sequences=SEQUENCES,
        length=LENGTH,
        totals=table(
            ["model", "method", "TFLOP", few, "float32: host GB", "bfloat16: GPU GB",
             "bfloat16, `placement=host`: GPU GB", "disk GB"], totals(), 2,
        ),
        stages=table(
            ["stage", "of", "TFLOP", "GB moved", "CPU min", "held, float32: GB",
             "held, bfloat16: GB"], by_stage("8 B"), 2,
        ),
        healings=table(
            ["model", "healing", "TFLOP", few, "held, float32: GB", "float32: host GB",
             "held, bfloat16: GB", "bfloat16: GPU GB"], healings(), 2,
        ),
        measured=table(
            ["model", "method", "measured: GiB", "reckoned: GiB", "measured: minutes"],
            measured(), 2,
        ),
        comparison=table(
            ["stage", "measured", "seconds: measured / reckoned", "peak: measured / reckoned"],
            comparison(), 1,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
