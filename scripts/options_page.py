"""``python scripts/options_page.py docs/options.md``: every option, from ``conf`` and schemas."""

from __future__ import annotations

import dataclasses
import re
import sys
from itertools import zip_longest
from pathlib import Path

import yaml

from flrc.config import GROUPS, Paths, RunConfig, components
from flrc.core.documented import attributes
from flrc.core.shipped import conf_folder
from flrc.results.tables.markdown import escape
from flrc.sweeps.help_text import default_groups

LABEL = re.compile(r"\$\{label_of:[^,]+,(.+)\}")
"""The label of a preset's model, which holds while the id is that model's."""
KEY = re.compile(r"(?P<key>\w+):(?: (?P<value>[^#]*?))?(?:\s+# (?P<note>.*))?")
"""A line of YAML. The note of a component's key is its source, or why it is a variant."""
NOT_SHOWN = ("experiment", "hydra")
"""Studies have pages of their own."""
HEAD = """# Options

Written by `python scripts/options_page.py docs/options.md` from `conf/` and the schemas.

`group=option` selects an option, `group.key=value` sets one of its keys. Options marked (default)
are used if nothing else is selected. `method=` selects several groups at once.
"""


def meanings(schema: type) -> dict[str, str]:
    """Field -> its meaning in Markdown, as :func:`attributes`."""
    return {name: _markdown(meaning) for name, meaning in attributes(schema).items()}


def _markdown(text: str) -> str:
    """Google style to Markdown: code in single backticks, None as YAML writes it."""
    parts = re.split("``|:data:`|`", re.sub(r"\bNone\b", "null", text))
    plain = (re.sub(r"[\\|*<]", r"\\\g<0>", part) for part in parts[::2])
    code = (f"`{part}`" for part in parts[1::2])
    return "".join(part for pair in zip_longest(plain, code, fillvalue="") for part in pair)


def page(conf: Path | None = None) -> str:
    """The whole page."""
    conf = conf or conf_folder()
    top = [
        (field.name, yaml.safe_dump(field.default).split("\n")[0], "")
        for field in dataclasses.fields(RunConfig)
        if isinstance(field.default, int | float | str | None) and field.default != "???"
    ]
    parts = [HEAD, "## Top level\n", _table(top, RunConfig)]
    groups = meanings(RunConfig)
    for group, default, comment in default_groups(conf):
        if group in NOT_SHOWN:
            continue
        parts.append(f"## `{group}`\n\n{groups.get(group, comment)}\n")
        for path in sorted((conf / group).glob("*.yaml")):
            parts.append(_option(group, path, is_default=path.stem in default))
    return "\n".join(parts).rstrip() + "\n"


def _option(group: str, path: Path, is_default: bool) -> str:
    text = path.read_text("utf-8")
    comments = re.findall(r"^# (?!@package)(.*)", text, re.MULTILINE)
    meaning = " ".join(re.sub("^variant: (.*)", r"(Variant: \1.)", line) for line in comments)
    title = f"### `{group}={path.stem}`" + (" (default)" if is_default else "")
    chosen = re.findall(r"^  - override /?(\S+): (\S+)", text, re.MULTILINE)
    parts = [title, "", meaning, ""]
    if chosen:
        parts += ["Selects " + ", ".join(f"`{g}={o}`" for g, o in chosen) + ".", ""]
    keys = _keys(text.partition("- _self_")[2] or re.sub(r"(?ms)^defaults:.*?\n\n", "", text))
    name = next((value for key, value, _ in keys if key in ("name", f"{group}.name")), "")
    schema = components(group).get(name) if group in GROUPS else None
    shown = [row for row in keys if not row[0].endswith("name") and group != "method"]
    schema = Paths if group == "paths" else schema or RunConfig
    return "\n".join([*parts, _table(shown, schema)] if shown else parts)


def _keys(text: str) -> list[tuple[str, str, str]]:
    """Key (nested ones with dots), value and note of every line that has a value."""
    rows: list[tuple[str, str, str]] = []
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = KEY.fullmatch(line.strip())
        if match is None or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        above = [(d, key) for d, key in above if d < depth]
        name = ".".join([*(key for _, key in above), match["key"]])
        if match["value"]:
            value = LABEL.sub(r"\1", match["value"].strip())
            rows.append((name, value, match["note"] or ""))
        else:
            above.append((depth, match["key"]))
    return rows


def _table(keys: list[tuple[str, str, str]], schema: type) -> str:
    """Key, type, value, and meaning with the note on the value; Hydra's keys have notes only."""
    known, types = meanings(RunConfig), _types(RunConfig)
    for prefix, part in (("", schema), *_parts(schema)):
        known |= {f"{prefix}{field}": meaning for field, meaning in meanings(part).items()}
        types |= {f"{prefix}{field}": kind for field, kind in _types(part).items()}
    rows = ["| key | type | value | meaning |", "| --- | --- | --- | --- |"]
    for key, value, note in keys:
        field = "" if key.startswith("hydra.") else key if key in known else key.rpartition(".")[2]
        note = f"{note[:1].upper()}{note[1:]}." if note else ""
        kind, meaning = types.get(field, ""), f"{known.get(field, '')} {escape(note)}".strip()
        rows.append(f"| `{key}` | {escape(kind)} | {escape(value)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _types(schema: type) -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(schema)}


def _parts(schema: type) -> list[tuple[str, type]]:
    """The components that a component is made of: prefix of their keys, and class."""
    made = {field.name: field.default_factory for field in dataclasses.fields(schema)}
    return [(f"{name}.", part) for name, part in made.items() if dataclasses.is_dataclass(part)]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
