"""Chat in the terminal: ``python -m flrc.chat runs/<model>/<run>``.

Shows the share of parameters in use as the ranks shrink.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from flrc.core.commands import as_called, description
from flrc.core.error_output import print_error
from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.library.compressed_model import CompressedModel
    from flrc.plans.rank_plan import RankPlan

HELP = "/new starts a new conversation, /quit ends."


def main(arguments: list[str] | None = None) -> int:
    """Load the model and start the conversation; returns 2 if it cannot be loaded, else 0."""
    parser = argparse.ArgumentParser(
        prog=as_called("chat"), description=description(__doc__, "chat")
    )
    parser.add_argument(
        "path", help="the run's id or the start of it, its folder, or a checkpoint's folder"
    )
    parser.add_argument("--runs", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    length, temperature = "length of the longest reply", "0 (the default) is greedy decoding"
    parser.add_argument("--max-new-tokens", type=int, default=256, help=length)
    parser.add_argument("--temperature", type=float, default=0.0, help=temperature)
    options = parser.parse_args(arguments)
    try:
        from flrc.library.generation import load

        model = load(options.path, options.device, runs=options.runs)
    except UserError as error:
        print_error(error)
        return 2
    sampling = {"do_sample": True, "temperature": options.temperature}
    return converse(model, options.max_new_tokens, sampling if options.temperature else {})


def converse(model: CompressedModel, max_new_tokens: int, options: dict[str, object]) -> int:
    """Read messages line by line and print replies as they are generated, until input ends."""
    from rich.console import Console
    from transformers import TextStreamer

    from flrc.library.generation import stream

    console = Console(highlight=False)
    turns: list[dict[str, str]] = []
    switches: list[tuple[int, RankPlan]] = []

    class ConsoleStreamer(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            console.out(text, end="\n" if stream_end else "", highlight=False)

    def switched(step: int, plan: RankPlan) -> None:
        switches.append((step, plan))
        share = f"[{1 - plan.realised:.0%} of the target parameters]"
        console.print(share, style="cyan", end=" ", markup=False)

    console.print(HELP, style="dim")
    while True:
        try:
            message = console.input("[bold]you>[/bold] ").strip()
        except (EOFError, KeyboardInterrupt):
            return 0
        if message == "/quit":
            return 0
        if message in ("/new", ""):
            turns = []
            continue
        turns.append({"role": "user", "content": message})
        switches.clear()
        streamer = ConsoleStreamer(model.tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        begun = time.perf_counter()
        try:
            ids = stream(model, turns, streamer, switched, max_new_tokens=max_new_tokens, **options)
        except UserError as error:  # for example, the conversation exceeds the context length
            console.print(str(error), style="red", markup=False)
            turns = []
            continue
        seconds = time.perf_counter() - begun
        text = model.tokenizer.decode(ids, skip_special_tokens=True)
        assert isinstance(text, str)
        turns.append({"role": "assistant", "content": text})
        summary = _summary(len(ids), seconds, switches)
        console.print(summary, style="dim", markup=False, soft_wrap=True)


def _summary(tokens: int, seconds: float, switches: list[tuple[int, RankPlan]]) -> str:
    """Number of tokens, speed, and the steps at which ranks changed."""
    steps = ", ".join(f"{1 - p.realised:.1%} from step {step + 1}" for step, p in switches)
    return f"{tokens} tokens, {tokens / seconds:.1f} per second; parameters in use: {steps}"


if __name__ == "__main__":
    sys.exit(main())
