"""Blocks that wait on the host: the same numbers, and one block's copies at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flrc.calibration.input_statistics import input_statistics
from flrc.calibration.output_gradient_settings import OutputGradientSettings
from flrc.calibration.output_statistics import output_statistics
from flrc.calibration.weight_gradients import aggregated, per_sequence
from flrc.models.anatomy import placement
from flrc.models.anatomy.blocks import decoder_blocks
from flrc.models.anatomy.placement import present, settle, wait_on_host, waits_on_host
from flrc.models.anatomy.targets import find_targets
from flrc.pipeline import run
from flrc.results.records.record import Record

SHAPES = ["tiny_llama_gqa", "tiny_llama", "tiny_qwen2"]
CPU = torch.device("cpu")


@pytest.fixture(params=SHAPES)
def both(request: Any, make_model: Callable[..., Any]) -> tuple[Any, Any]:
    """The same model twice: whole, and with blocks that wait."""
    waiting = make_model(request.param)
    wait_on_host(waiting, CPU)
    return make_model(request.param), waiting


class Copies:
    """Counts the bytes of live copies, whoever holds them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.alive = self.most = 0
        real = placement.present

        def counted(block: Any, device: torch.device) -> Any:
            context = real(block, device)
            return _Counted(self, block, context)

        monkeypatch.setattr(placement, "present", counted)

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.alive -= size


class _Counted:
    def __init__(self, copies: Copies, block: Any, context: Any) -> None:
        self.copies, self.block, self.context = copies, block, context

    def __enter__(self) -> None:
        self.context.__enter__()
        for tensor in (*self.block.parameters(), *self.block.buffers()):
            self.copies.add(tensor)

    def __exit__(self, *error: object) -> Any:
        return self.context.__exit__(*error)


def block_bytes(model: Any) -> int:
    _, blocks = decoder_blocks(model)
    return max(sum(t.nbytes for t in (*b.parameters(), *b.buffers())) for b in blocks)


def test_statistics_and_gradients_are_the_same(
    both: tuple[Any, Any], sequences: list[torch.Tensor]
) -> None:
    whole, waiting = both
    targets = find_targets(whole)
    assert find_targets(waiting) == targets
    for (_, mine), (_, theirs) in zip(
        input_statistics(whole, targets, sequences),
        input_statistics(waiting, targets, sequences),
        strict=True,
    ):
        for name, statistics in mine.items():
            assert torch.equal(statistics.gram, theirs[name].gram)
    for reduce in (per_sequence, aggregated):
        assert reduce(whole, targets, sequences) == reduce(waiting, targets, sequences)
    settings = OutputGradientSettings()
    expected = dict(output_statistics(whole, targets, sequences, settings, 1e12))
    for block, found in output_statistics(waiting, targets, sequences, settings, 1e12):
        for name, outputs in found.items():
            assert torch.equal(outputs.gram, expected[block][name].gram)
    assert not any(p.requires_grad or p.grad is not None for p in waiting.parameters())


def test_one_block_is_on_the_device(
    make_model: Callable[..., Any],
    sequences: list[torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forward, and backward too, where a graph would like to keep them all."""
    copies = Copies(monkeypatch)
    model = make_model("tiny_llama_gqa")
    one = block_bytes(model)
    wait_on_host(model, CPU)
    targets = find_targets(model)
    assert copies.most == one
    for _ in input_statistics(model, targets, sequences):
        pass
    per_sequence(model, targets, sequences)
    list(output_statistics(model, targets, sequences, OutputGradientSettings(), 1e12))
    gc.collect()
    assert copies.most <= 2 * one  # the next arrives while autograd lets go of the last
    assert copies.alive == 0


def test_a_held_graph_would_keep_all_blocks(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above measures can fail."""
    copies = Copies(monkeypatch)
    model = make_model("tiny_llama_gqa")
    one, blocks = block_bytes(model), len(decoder_blocks(model)[1])
    wait_on_host(model, CPU)
    model.requires_grad_(True)
    logits = model(input_ids=torch.arange(8)[None], use_cache=False).logits
    assert copies.most == copies.alive == blocks * one
    del logits
    gc.collect()
    assert copies.alive == 0


def test_what_waits_is_never_exchanged(make_model: Callable[..., Any]) -> None:
    model = make_model()
    before = {name: (id(p), p.data_ptr()) for name, p in model.named_parameters()}
    wait_on_host(model, CPU)
    assert waits_on_host(model)
    block = decoder_blocks(model)[1][0]
    with present(block, CPU):
        assert {id(p) for p in block.parameters()}.isdisjoint(i for i, _ in before.values())
    with pytest.raises(IndexError):  # an error in between leaves nothing behind
        model(input_ids=torch.tensor([[10**6]]))
    model(input_ids=torch.arange(8)[None])
    assert {name: (id(p), p.data_ptr()) for name, p in model.named_parameters()} == before
    settle(model)
    assert not waits_on_host(model)
    assert {name: id(p) for name, p in model.named_parameters()} == {
        name: number for name, (number, _) in before.items()
    }
    settle(model)  # nothing more to do


@pytest.mark.parametrize(
    "words",
    [
        *(
            [f"method={method}"]
            for method in ("svdllm", "flra", "flrc", "kfac_skip", "asvd", "skipcat", "lems")
        ),
        ["method=flrc", "search=none", "runtime=offload", "runtime.budget=0.9"],
    ],
    ids=" ".join,
)
def test_runs_are_the_same(
    words: list[str],
    run_config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equal to the last digit: searches that truncate layers, schedules, refinement, forms."""
    found: dict[str, Record] = {}
    visits: list[object] = []
    real = placement.present

    def counted(block: Any, device: torch.device) -> Any:
        visits.append(block)
        return real(block, device)

    monkeypatch.setattr(placement, "present", counted)
    for where in ("device", "host"):
        folders = [f"paths.runs={tmp_path / where}", f"paths.cache={tmp_path / where / 'cache'}"]
        if "runtime=offload" in words:  # its folder is in the id
            folders.append(f"runtime.folder={tmp_path / 'offload'}")
        config = run_config(*words, "rate=0.3", f"placement={where}", *folders)
        found[where] = run(config)
        assert found[where].run["status"] == "ok", found[where].run
        assert bool(visits) == (where == "host")
    mine, theirs = found["device"], found["host"]
    assert mine.run["id"] == theirs.run["id"]
    assert [vars(m) for m in mine.measurements] == [vars(m) for m in theirs.measurements]
    assert mine.results["layers"] == theirs.results["layers"]
