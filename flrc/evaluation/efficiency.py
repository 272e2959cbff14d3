"""Speed, bytes and memory of generation, compared with the dense model in the same process."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from flrc.core.demand import Demand
from flrc.core.memory import peak_memory
from flrc.data.token_sequences import TokenSequences
from flrc.evaluation.base import Evaluation, Subject
from flrc.models.anatomy.input_limits import Limits
from flrc.results.records.measurement import Measurement, Outcome

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from flrc.data.base import DataSource
    from flrc.evaluation.roofline import Roofline
    from flrc.evaluation.step_cost import StepCost
    from flrc.evaluation.timed_generation import Timing
    from flrc.models.anatomy.model_shape import ModelShape


@dataclass
class Efficiency(Evaluation):
    """Tokens per second of prefill and decoding, bytes per token, and the machine's roofline.

    The dense model is loaded a second time. Both models generate alternately, in one process and
    with the same loop: greedy, with a cache, including the head, every reply at full length. The
    schedule applies, and phase switches count. Each number is the median over the repeats; every
    repeat is in the items. ``speedup`` is the median of the ratios of neighbouring runs.

    Source: FLRC (arXiv 2510.09332), appendix I, tables 11 and 12: 32 prompt and 128 new tokens,
        batch 512, or batch 1.

    Attributes:
        batch_sizes: Batch sizes, each measured by itself; None for 1 and 512 on CUDA, 1 and 8 on
            the CPU.
        prompt_tokens: Tokens of each prompt.
        new_tokens: Forward steps; None for 128 on CUDA, 32 on the CPU.
        repeats: Number of pairs of measured generations, dense and compressed.
        device: Device of the run.
        dtype: Data type of the run.
        threads: CPU threads of the run.
        runtime: Runtime of the run.
    """

    name: str = "efficiency"
    batch_sizes: list[int] | None = None
    prompt_tokens: int = 32
    new_tokens: int | None = None
    repeats: int = 3
    device: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    runtime: str = "eager"

    def check(self) -> None:
        """Check the ranges of sizes and repeats."""
        for name in ("prompt_tokens", "repeats"):
            self.require(getattr(self, name) >= 1, name, "1 or more")
        self.require(self.new_tokens is None or self.new_tokens >= 2, "new_tokens", "2 or more")
        sizes = self.batch_sizes
        self.require(
            sizes is None or (len(sizes) > 0 and all(s >= 1 for s in sizes)),
            "batch_sizes",
            "null, or numbers of 1 or more",
        )

    def _on_cuda(self) -> bool:
        from flrc.core.devices import resolve_device

        return resolve_device(self.device).type == "cuda"

    def parts(self) -> list[str]:
        """``decode`` for batch size 1, else ``decode_batch<size>``."""
        sizes = self.batch_sizes or ([1, 512] if self._on_cuda() else [1, 8])
        return ["decode" if size == 1 else f"decode_batch{size}" for size in sizes]

    def settings(self, part: str, data: DataSource) -> dict[str, Any]:
        """Sizes, repeats, and the settings of the machine."""
        import torch

        cuda = self._on_cuda()
        return {
            "version": type(self).VERSION,
            "batch": int(part.removeprefix("decode_batch")) if part != "decode" else 1,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens or (128 if cuda else 32),
            "repeats": self.repeats,
            "device": torch.cuda.get_device_name() if cuda else platform.machine(),
            "dtype": self.dtype,
            "threads": self.threads or torch.get_num_threads(),
            "runtime": self.runtime,
            "torch": torch.__version__,
        }

    def generates(self) -> bool:
        """Yes: replies are timed under the schedule."""
        return True

    def check_data(self, data: DataSource) -> None:
        """No data is needed."""

    def token_sequences(
        self,
        part: str,
        data: DataSource,
        tokenizer: PreTrainedTokenizerBase,
        config: PretrainedConfig,
    ) -> TokenSequences:
        """The random prompts."""
        settings = self.settings(part, data)
        ids = _prompt(Limits.of(config), settings["batch"], self.prompt_tokens)
        return TokenSequences(
            "a timed prompt with its reply",
            list(ids),
            "evaluation.efficiency.prompt_tokens or new_tokens",
            settings["new_tokens"],
        )

    def demand(self, shape: ModelShape, read: TokenSequences, kept: float) -> Demand:
        """The peak's generation, then a warm-up and the repeats of both models."""
        lengths = [len(ids) for ids in read.ids]
        sizes = {"new_tokens": read.new_tokens, "batch": max(1, len(lengths))}
        mine = shape.generation(lengths, **sizes, kept=kept)
        if kept == 1:
            return mine * (2 + self.repeats)
        dense = shape.generation(lengths, **sizes).holding(shape.bytes)
        return mine * (2 + self.repeats) + dense * (1 + self.repeats)

    def evaluate(self, subject: Subject, part: str) -> Outcome:
        """Measure one batch size."""
        from flrc.evaluation import roofline
        from flrc.evaluation.step_cost import step_costs
        from flrc.evaluation.timed_generation import alternate, timed
        from flrc.models.layers.switching import activate

        settings = self.settings(part, subject.data)
        batch, steps = settings["batch"], settings["new_tokens"]
        sizes = {"batch": batch, "prompt": self.prompt_tokens, "steps": steps}
        decoder, limits = subject.decoder, Limits.of(subject.model.config)
        ids = _prompt(limits, batch, self.prompt_tokens).to(subject.model.device)
        # Before the dense model is loaded, so that the peak is that of one model.
        peak: dict[str, int] = {}
        with peak_memory(peak):
            timed(subject.model, ids, steps, decoder.plans_by_step(steps))
        models, plans = {"dense": subject.model}, {"dense": decoder.plans_by_step(steps)}
        with ExitStack() as stack:
            if decoder.plans is not None:
                assert subject.load_dense is not None
                dense = stack.enter_context(subject.load_dense())
                models = {"compressed": subject.model, "dense": dense}
                plans = {"compressed": decoder.plans_by_step(steps), "dense": {}}
            runs = {name: partial(timed, models[name], ids, steps, plans[name]) for name in models}
            rows = alternate(runs, self.repeats, f"timing {part}")
            costs = {name: step_costs(models[name], plans[name], **sizes) for name in models}
        if decoder.plans is not None:
            activate(subject.model, decoder.plans.constant)
        limit = roofline.measure(subject.model.device, subject.model.dtype)
        values = summary(rows, costs, limit, batch, self.prompt_tokens)
        values["peak_bytes"] = (peak.get("device", peak["resident"]), "bytes", False)
        rate, count = decoder.rate_per_step([steps], steps), self.repeats
        measurements = [
            Measurement(f"{part}/{name}", value, unit, higher, None, count, settings, rate)
            for name, (value, unit, higher) in values.items()
        ]
        keys = ("prefill", "steps", "streamed")
        items: list[dict[str, Any]] = [
            {name: {key: getattr(timing, key) for key in keys} for name, timing in row.items()}
            for row in rows
        ]
        return Outcome(measurements, [*items, {"roofline": dict(vars(limit))}])


def _prompt(limits: Limits, batch: int, tokens: int) -> Tensor:
    """``(batch, tokens)`` random ids; the content does not affect the speed."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, limits.vocabulary or 1, (batch, tokens), generator=generator)


def summary(
    rows: Sequence[Mapping[str, Timing]],
    costs: Mapping[str, Sequence[StepCost]],
    limit: Roofline,
    batch: int,
    prompt: int,
) -> dict[str, tuple[float, str, bool]]:
    """Value, unit and whether higher is better, for each number, from timings and costs.

    ``allowed`` numbers are the roofline: every step takes only as long as moving its bytes, or its
    operations, at the measured throughput. They are omitted where weights are streamed.
    """
    values: dict[str, tuple[float, str, bool]] = {}
    mine = "compressed" if "compressed" in costs else "dense"
    allowed = {}
    streaming = any(timing.streamed for row in rows for timing in row.values())
    for name, steps in costs.items():
        label = "" if name == mine else "dense_"
        decoding = median(sum(row[name].steps) for row in rows)
        prefill = median(row[name].prefill for row in rows)
        least = sum(limit.seconds(c.weights + c.cache, c.operations) for c in steps)
        allowed[name] = least
        moved = fmean(c.weights + c.cache for c in steps)
        values |= {
            f"{label}tokens_per_second": (batch * len(steps) / decoding, "tokens/s", True),
            f"{label}prefill_tokens_per_second": (batch * prompt / prefill, "tokens/s", True),
            f"{label}first_token_seconds": (prefill, "s", False),
            f"{label}bytes_per_token": (moved / batch, "bytes", False),
        }
        if streaming:
            per_step = median(row[name].streamed for row in rows) / len(steps)
            values[f"{label}streamed_bytes_per_step"] = (per_step, "bytes", False)
        else:
            values |= {
                f"{label}allowed_tokens_per_second": (batch * len(steps) / least, "tokens/s", True),
                f"{label}share_of_allowed": (100 * least / decoding, "%", True),
            }
    if mine == "compressed":
        ratios = [sum(r["dense"].steps) / sum(r["compressed"].steps) for r in rows]
        first = [r["dense"].prefill / r["compressed"].prefill for r in rows]
        values |= {
            "speedup": (median(ratios), "x", True),
            "speedup_lowest": (min(ratios), "x", True),
            "speedup_highest": (max(ratios), "x", True),
            "prefill_speedup": (median(first), "x", True),
        }
        if streamed := values.get("streamed_bytes_per_step", (0.0,))[0]:
            less = values["dense_streamed_bytes_per_step"][0] / streamed
            values["streamed_ratio"] = (less, "x", True)
        if not streaming:
            faster = allowed["dense"] / allowed["compressed"]
            values["allowed_speedup"] = (faster, "x", True)
    return values
