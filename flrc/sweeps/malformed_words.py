"""Words of a command line that cannot be read as settings or flags: what was probably meant."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile

from flrc.errors import UserError

CLOSING = {"[": "]", "{": "}", "(": ")"}
QUOTES = "'\""
FORM = "settings are KEY=VALUE, or KEY=VALUE,VALUE with -m"
SIMILAR = 0.8
"""How similar a word must be to a flag: ``--rate`` is a setting, not ``--run``."""


def unread_setting(words: Sequence[str], at: int, readable: Callable[[str], bool]) -> UserError:
    """The error for the first word that Hydra cannot read.

    Args:
        words: All settings of the command.
        at: Index of the word.
        readable: Whether Hydra can read a word; only such words are proposed.
    """
    for given, meant, problem in _meanings(words, at):
        if readable(meant):
            several = "-m " if _has_several(meant) else ""
            return UserError(problem, given=given, fix=f"{several}{shown(meant)}")
    key, equals, value = words[at].partition("=")
    fix = None
    if equals and value and not re.search(r"['\"\\]", value):
        fix = f"quote the value, also for the shell: '{key}=\"{value}\"'"
    return UserError("the command line cannot be parsed", given=words[at], allowed=FORM, fix=fix)


def shown(word: str) -> str:
    """A setting as it is typed in a shell: in quotes only where the shell would change it."""
    plain = re.fullmatch(r"[\w@%+=:,./~\[\]-]*", word.replace("=$HOME/", "=/", 1))
    return word if plain else shlex.quote(word)


def _meanings(words: Sequence[str], at: int) -> Iterable[tuple[str, str, str]]:
    """What was given, what may have been meant, and the problem; the most likely first."""
    word, rest = words[at], words[at + 1 :]
    key, equals, value = word.partition("=")
    before = words[at - 1] if at else ""
    loose = list(takewhile(lambda other: "=" not in other, rest))
    if not equals:
        yield from _without_equals(word, rest, before)
    if before and (before.endswith("=") or word.startswith((",", "="))):
        yield f"{before} {word}", before + word, "a setting must not contain spaces"
    if loose and (word.endswith(",") or _unclosed(word)):
        for count in range(1, len(loose) + 1):
            part = [word, *loose[:count]]
            if not _unclosed("".join(part)):
                yield " ".join(part), "".join(part), "a setting must not contain spaces"
    if not equals or not value:
        return
    if value.startswith("~/"):  # few shells expand it after the =
        yield word, f"{key}=$HOME{value[1:]}", "a value must not start with ~"
    if value.startswith("="):
        yield word, f"{key}={value.lstrip('=')}", "a setting is written with one ="
    if any(value.count(quote) % 2 for quote in QUOTES):
        yield word, re.sub(r"['\"]", "", word), "a quote is not closed"
    elif missing := _unclosed(word):
        yield word, word.rstrip(",") + missing, "a bracket is not closed"
    elif value[-1] in CLOSING.values() and value.count(value[-1]) == 1:
        opening = next(o for o, closing in CLOSING.items() if closing == value[-1])
        yield word, f"{key}={opening}{value}", "a bracket is not opened"
    yield word, word.rstrip(","), "a setting must not end with a comma"


def _without_equals(word: str, rest: Sequence[str], before: str) -> Iterable[tuple[str, str, str]]:
    colon = re.fullmatch(r"([\w.]+):(.+)", word)
    after = rest[0] if rest else ""
    if after.startswith("="):
        part = rest[:2] if after == "=" else rest[:1]
        given = " ".join([word, *part])
        yield given, word + "".join(part), "a setting must not contain spaces"
    elif colon:
        yield word, f"{colon[1]}={colon[2]}", "a setting is written with ="
    elif re.search(r"=.*[\d.]$", before) and re.fullmatch(r"[\d.]+", word):
        yield f"{before} {word}", f"{before},{word}", "several values are separated by commas"
    elif "=" in before and "/" in word:
        given = f"{before} {word}"
        yield given, given, "a value with spaces needs quotes in the shell"
    elif after and "=" not in after and not before.endswith(("=", ",")):
        yield f"{word} {after}", f"{word}={after}", "a setting is written with ="


def _unclosed(word: str) -> str:
    """The brackets that would close all that are open in the word."""
    closing: list[str] = []
    for character in word:
        if character in CLOSING:
            closing.append(CLOSING[character])
        elif closing and character == closing[-1]:
            closing.pop()
    return "".join(reversed(closing))


def _has_several(word: str) -> bool:
    return "," in re.sub(r"[\[({].*[\])}]", "", word)


def check_flags(parser: ArgumentParser, arguments: Sequence[str]) -> None:
    """Raise UserError for a flag that the parser does not have: ``--rate 0.2``."""
    flags = sorted(parser._option_string_actions)
    for at, word in enumerate(arguments):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name, equals, value = word.partition("=")
        long = name.startswith("--")
        if any(flag == name or (long and flag.startswith(name)) for flag in flags):
            continue
        after = arguments[at + 1] if at + 1 < len(arguments) else ""
        apart = not equals and after and "=" not in after and not after.startswith("-")
        key = name.lstrip("-").replace("-", "_")
        setting = f"{key}={value if equals else after if apart else 'true'}"
        similar = get_close_matches(name, flags, n=1, cutoff=SIMILAR)
        raise UserError(
            f"there is no flag {name}",
            given=f"{word} {after}" if apart and not similar else word,
            allowed="KEY=VALUE for settings; --help lists the flags",
            fix=f"did you mean {similar[0]}?" if similar else shown(setting),
        )
