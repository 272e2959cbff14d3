"""Twenty mistakes and the complete answers, in ``mistakes.txt``, to be read as a user reads them.

After a change, ``FLRC_RENEW=/tmp/mistakes.txt pytest tests/e2e/test_mistakes.py`` writes the new
answers to that file, also for commands that were added without one. Read them, then copy it here.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from running import ROOT, Call, Ended, Place

TRANSCRIPT = Path(__file__).with_name("mistakes.txt")
PROMPT = "$ python run.py "


class AsTyped(Place):
    """A place whose commands keep flags and words in the order in which they were typed."""

    def line(self, *arguments: str) -> list[str]:
        """The defaults, then the words as given."""
        words = list(arguments)
        return [*(word for word in super().line(*arguments) if word not in words), *words]


def read(file: Path = TRANSCRIPT) -> dict[str, str]:
    """The answers by command."""
    parts = file.read_text(encoding="utf-8").split(PROMPT)[1:]
    commands = [part.partition("\n") for part in parts]
    return {command: answer.strip() for command, _, answer in commands}


def answer(ended: Ended, place: Place) -> str:
    """Everything that the command printed, without this machine's paths."""
    text = ended.text.replace(str(place.path), "HERE").replace(str(ROOT), "REPOSITORY")
    text = text.replace(str(place.data), "DATA")
    return re.sub(r" +\n", "\n", text).strip()


def write(file: Path, command: str, text: str) -> None:
    """Write the transcript with another answer to one command."""
    answers = read(file if file.is_file() else TRANSCRIPT) | {command: text}
    written = (f"{PROMPT}{each}\n\n{answers[each]}\n" for each in answers)
    file.write_text("\n\n".join(written), encoding="utf-8")


def test_there_are_twenty() -> None:
    assert len(read()) >= 20


@pytest.mark.parametrize("command", read())
def test_the_answer_to_a_mistake(
    command: str, place: Place, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = call(*shlex.split(command), at=AsTyped(place.path, place.data))
    assert ended.code == 1
    place.assert_nothing_computed()
    text = answer(ended, place)
    if "FLRC_RENEW" in os.environ:
        write(Path(os.environ["FLRC_RENEW"]), command, text)
    else:
        assert text == read()[command]
