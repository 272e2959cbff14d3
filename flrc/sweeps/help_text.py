"""What ``--help`` and ``--version`` print. Hydra's own help would compose every option first."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

from flrc.config import RunConfig
from flrc.core.commands import MODULES, as_called
from flrc.core.commit import git_state
from flrc.core.documented import attributes
from flrc.core.version import __version__
from flrc.sweeps.arguments import ConfigLocation

HIDDEN = ("hydra",)
NARROWEST, WIDEST, LONG = 70, 100, 50
"""Characters of a line, between these on a terminal; of a meaning that is cut at its colon."""
TEXT = """\
flrc: compress language models with low-rank factors, and know what it costs.

usage: {program} [GROUP=OPTION ...] [KEY=VALUE ...]
       {program} -m GROUP=OPTION,OPTION ... [KEY=VALUE,VALUE ...]

examples:
  {program} method=flrc rate=0.2
  {program} -m method=dense,svdllm,flrc rate=0.2,0.3 evaluation=[perplexity]
  {program} method=kfac_skip model=Qwen/Qwen2.5-0.5B model.save=true

groups and their options (the default first):
{groups}

keys of a run:
{keys}
  {program} --cfg job lists those of the groups (GROUP.KEY=VALUE)

other commands (each has --help):
{commands}

flags: -m, --multirun   a sweep, one job for each combination
       --config-dir DIR a folder with further options, as DIR/model/mine.yaml
       --cfg job        print the configuration and run nothing
       --version, --hydra-help

docs/options.md explains every group, option and key.
"""
ABOUT = {
    "compress": "save a compressed model, evaluate nothing",
    "chat": "talk to a saved model",
    "export": "write the equivalent dense model",
    "records": "list, show and compare the runs",
    "report": "tables, plots and pages of any runs",
    "publish": "send finished runs to W&B",
}
"""What each command does."""


def help_text(location: ConfigLocation) -> str:
    """The answer to ``--help``: examples, groups, keys and commands.

    Args:
        location: Where the configuration is.
    """
    width = min(max(shutil.get_terminal_size((WIDEST, 0)).columns, NARROWEST), WIDEST)
    meanings, known = attributes(RunConfig), default_groups(Path(location.folder))
    groups = [
        _group_line(name, meanings.get(name, comment), _options(location, name, defaults), width)
        for name, defaults, comment in known
        if name not in HIDDEN
    ]
    keys = sorted(meanings.keys() - {name for name, *_ in known})
    return TEXT.format(
        program=as_called(),
        groups="\n".join(groups),
        keys=textwrap.fill(", ".join(keys), width, initial_indent="  ", subsequent_indent="  "),
        commands="\n".join(_command_lines()),
    )


def default_groups(conf: Path) -> list[tuple[str, list[str], str]]:
    """Each group, its default options and its comment, in the order of ``config.yaml``."""
    text = (conf / "config.yaml").read_text("utf-8")
    lines = re.findall(r"^  - (\w+): ([^#\n]+?)(?:  # (.*))?$", text, re.MULTILINE)
    return [
        (group, re.findall(r"\w+", default), f"{comment[:1].upper()}{comment[1:]}.")
        for group, default, comment in lines
    ]


def _options(location: ConfigLocation, group: str, defaults: list[str]) -> list[str]:
    """The options of a group in all folders of the configuration, the defaults first."""
    folders = [location.folder, *filter(None, [location.extra_folder])]
    names = {path.stem for folder in folders for path in Path(folder, group).glob("*.yaml")}
    return [*defaults, *sorted(names - set(defaults))]


def _group_line(group: str, meaning: str, options: list[str], width: int) -> str:
    """One line: the group, its meaning, and as many of its options as fit."""
    short = meaning if len(meaning) <= LONG else meaning.partition(":")[0]
    start = f"  {group:14}{short.rstrip('.')} ["
    shown = list(options)
    while shown:
        rest = len(options) - len(shown)
        line = start + ", ".join([*shown, *([f"{rest} more"] if rest else [])]) + "]"
        if len(line) <= width:
            return line
        shown.pop()
    return f"{start}{len(options)} options]"


def _command_lines() -> list[str]:
    called = {name: as_called(name) if name in MODULES else f"flrc {name}" for name in ABOUT}
    width = max(map(len, called.values()))
    return [f"  {called[name]:{width}}  {about}" for name, about in ABOUT.items()]


def version_text() -> str:
    """``flrc 0.1.0``, in a checkout with the commit."""
    commit, dirty = git_state().values()
    return f"flrc {__version__}" + (
        f" (commit {commit[:12]}{', modified' if dirty else ''})" if commit else ""
    )
