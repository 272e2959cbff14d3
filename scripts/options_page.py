"""``python scripts/options_page.py docs/options.md``: every option, from ``conf`` and schemas."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from flrc.config import GROUPS, RunConfig, components
from flrc.library.compression import CONF
from flrc.results.tables.markdown import escape

KEY = re.compile(r"(?P<key>[\w.]+):(?: (?P<value>[^#]*?))?(?:\s+# (?P<meaning>.*))?")
NOT_SHOWN = ("experiment", "hydra")
"""Studies have pages of their own."""
HEAD = """# Options

Written by `python scripts/options_page.py docs/options.md` from `conf/` and the schemas.

`group=option` chooses an option, `group.key=value` sets a key of it. Where nothing is said the one
marked (default) is taken. `method=` sets several groups at once.
"""


def page(conf: Path = CONF) -> str:
    """The whole page."""
    main = (conf / "config.yaml").read_text("utf-8")
    top = [row for row in _keys(main.split("- _self_")[1]) if not row[0].startswith("hydra")]
    parts = [HEAD, "## Top level\n", _table(top, RunConfig)]
    for group, default, meaning in _groups(main):
        parts.append(f"## `{group}`\n\n{meaning[:1].upper()}{meaning[1:]}.\n")
        for path in sorted((conf / group).glob("*.yaml")):
            parts.append(_option(group, path, is_default=path.stem in default))
    return "\n".join(parts).rstrip() + "\n"


def _groups(main: str) -> list[tuple[str, list[str], str]]:
    """Group, its default options and its meaning, in the order of ``config.yaml``."""
    found = []
    for line in main.splitlines():
        named = re.match(r"  - (\w+): ([^#]+?)\s+# (.*)", line)
        if named is not None and named[1] not in NOT_SHOWN:
            found.append((named[1], re.findall(r"\w+", named[2]), named[3].rstrip(".")))
    return found


def _option(group: str, path: Path, is_default: bool) -> str:
    text = path.read_text("utf-8")
    comments = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    meaning = " ".join(line for line in comments if not line.startswith("@package"))
    title = f"### `{group}={path.stem}`" + (" (default)" if is_default else "")
    chosen = re.findall(r"^  - override /?(\S+): (\S+)", text, re.MULTILINE)
    parts = [title, "", meaning, ""]
    if chosen:
        parts += ["Chooses " + ", ".join(f"`{g}={o}`" for g, o in chosen) + ".", ""]
    keys = _keys(text.partition("- _self_")[2] or re.sub(r"(?ms)^defaults:.*?\n\n", "", text))
    name = next((v for key, v, _ in keys if key in ("name", f"{group}.name")), "")
    schema = components(group).get(name) if group in GROUPS else None
    shown = [row for row in keys if not row[0].endswith("name") and group != "method"]
    return "\n".join([*parts, _table(shown, schema)] if shown else parts)


def _keys(text: str) -> list[tuple[str, str, str]]:
    """Key (nested ones with dots), value and meaning of every line that has a value."""
    found: list[tuple[str, str, str]] = []
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = KEY.fullmatch(line.strip())
        if match is None or line.lstrip().startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        above = [(d, key) for d, key in above if d < depth]
        name = ".".join([*(key for _, key in above), match["key"]])
        if match["value"]:
            found.append((name, match["value"].strip(), match["meaning"] or ""))
        else:
            above.append((depth, match["key"]))
    return found


def _table(keys: list[tuple[str, str, str]], schema: type | None) -> str:
    """Key, type, value, meaning."""
    fields = getattr(schema, "__dataclass_fields__", {})
    rows = ["| key | type | value | meaning |", "| --- | --- | --- | --- |"]
    for key, value, meaning in keys:
        field = key.rpartition(".")[2]
        kind = str(fields[field].type) if field in fields else ""
        rows.append(f"| `{key}` | {escape(kind)} | {escape(value)} | {escape(meaning)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
