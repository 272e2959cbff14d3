"""A conversation in the terminal: ``python -m flrc.chat runs/<model>/<run>``.

Shows how many parameters are in use as the ranks shrink.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from flrc.errors import UserError

if TYPE_CHECKING:
    from flrc.models.checkpoints.checkpoint import Loaded
    from flrc.plans.rank_plan import RankPlan

HELP = "/new begins a new conversation, /quit ends."


def main(arguments: list[str] | None = None) -> int:
    """Read what the user says, line by line; print replies as they come."""
    parser = argparse.ArgumentParser(prog="python -m flrc.chat", description=__doc__)
    parser.add_argument("path", help="folder of a run that was made with model.save=true")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest reply")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 (the default) is greedy decoding"
    )
    given = parser.parse_args(arguments)
    try:
        from flrc.library.generation import load

        model = load(given.path, given.device)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    options = {"do_sample": True, "temperature": given.temperature} if given.temperature else {}
    return converse(model, given.max_new_tokens, options)


def converse(model: Loaded, max_new_tokens: int, options: dict[str, object]) -> int:
    """The conversation itself; ends with the input."""
    from rich.console import Console
    from transformers import TextStreamer

    from flrc.library.generation import stream

    console = Console(highlight=False)
    console.print(HELP, style="dim")
    turns: list[dict[str, str]] = []
    while True:
        try:
            said = console.input("[bold]you>[/bold] ").strip()
        except (EOFError, KeyboardInterrupt):
            return 0
        if said == "/quit":
            return 0
        if said in ("/new", ""):
            turns = []
            continue
        turns.append({"role": "user", "content": said})
        switches: list[tuple[int, RankPlan]] = []

        def switched(
            step: int, plan: RankPlan, switches: list[tuple[int, RankPlan]] = switches
        ) -> None:
            switches.append((step, plan))
            share = f"[{1 - plan.realised:.0%} of the target parameters]"
            console.print(share, style="cyan", end=" ", markup=False)

        class Shown(TextStreamer):  # type: ignore[misc]
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                console.out(text, end="\n" if stream_end else "", highlight=False)

        begun = time.perf_counter()
        shown = Shown(model.tokenizer, skip_prompt=True, skip_special_tokens=True)  # type: ignore[arg-type]
        try:
            reply = stream(model, turns, shown, switched, max_new_tokens=max_new_tokens, **options)
        except UserError as error:  # the conversation has outgrown the model's context, say
            console.print(str(error), style="red", markup=False)
            turns = []
            continue
        seconds = time.perf_counter() - begun
        text = model.tokenizer.decode(reply, skip_special_tokens=True)
        assert isinstance(text, str)
        turns.append({"role": "assistant", "content": text})
        console.print(
            _summary(len(reply), seconds, switches), style="dim", markup=False, soft_wrap=True
        )


def _summary(tokens: int, seconds: float, switches: list[tuple[int, RankPlan]]) -> str:
    """What the reply took: tokens, speed, and where ranks changed."""
    steps = ", ".join(f"{1 - p.realised:.1%} from step {step + 1}" for step, p in switches)
    return f"{tokens} tokens, {tokens / seconds:.1f} a second; parameters in use: {steps}"


if __name__ == "__main__":
    sys.exit(main())
