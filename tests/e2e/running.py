"""The command line as users run it: in its own process, or called as run.py calls it."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONF = Path(__file__).resolve().parent / "conf"
"""Options of the tests, which take precedence over those of the same name in conf/."""
TEXT = (
    "the of a river stone winter garden letter small bright carries under before voice and"
    " harbour signal paper north evening slowly answers door window green crossing"
)

SMALL = (
    "model=tiny",
    "data=folder",
    "device=cpu",
    "threads=1",
    "calibration.samples=4",
    "calibration.length=64",
    "calibration.dialogues=4",
    "evaluation.perplexity.length=128",
    "evaluation.summarization.limit=4",
    "evaluation.summarization.max_new_tokens=8",
)
"""Makes a job a matter of seconds."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything the user sees."""
        return self.out + self.err


@dataclass(frozen=True)
class Place:
    """Folders of one test: where its records and its cache go, and where its data is."""

    path: Path
    data: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    def line(self, *arguments: str) -> list[str]:
        """A command line: the defaults of every command here, unless ``arguments`` override them.

        Settings of an evaluation that is not chosen are left out.
        """
        common = [
            *SMALL,
            *(() if "data=sample" in arguments else (f"data.root={self.data}",)),
            f"paths.runs={self.runs}",
            f"paths.cache={self.cache}",
        ]
        given = {key: value for key, _, value in (word.partition("=") for word in arguments)}
        chosen = given.get("evaluation", "perplexity,summarization")
        flags = [word for word in arguments if word.startswith("-")]  # Hydra wants them first
        return [
            f"--config-dir={CONF}",
            *flags,
            *(
                word
                for word in common
                if word.partition("=")[0] not in given
                and (not word.startswith("evaluation.") or word.split(".")[1] in chosen)
            ),
            *(word for word in arguments if not word.startswith("-")),
        ]

    def command(self, *arguments: str, root: Path = ROOT) -> list[str]:
        """``python run.py`` with the arguments of this place."""
        return [sys.executable, str(root / "run.py"), *self.line(*arguments)]

    def run(self, *arguments: str, root: Path = ROOT, file_limit: int | None = None) -> Ended:
        """The command in its own process, in the repository root.

        ``file_limit``: the size in bytes that no file may exceed.
        """

        def limit() -> None:
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        done = subprocess.run(
            self.command(*arguments, root=root),
            preexec_fn=limit,
            cwd=root,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def records(self) -> dict[str, dict[str, Any]]:
        """Every record by the name of its folder."""
        return {path.parent.name: read(path) for path in sorted(self.runs.glob("*/*/record.json"))}

    def record(self, prefix: str) -> dict[str, Any]:
        """The only record whose folder's name has this prefix."""
        (found,) = (record for name, record in self.records().items() if name.startswith(prefix))
        return found

    def folder(self, prefix: str) -> Path:
        """The only run folder whose name has this prefix."""
        (found,) = self.runs.glob(f"*/{prefix}*")
        return found

    def entries(self, stage: str) -> list[Path]:
        """Finished cache entries of a stage."""
        return sorted(path.parent for path in self.cache.glob(f"{stage}/*/inputs.json"))

    def assert_nothing_computed(self) -> None:
        """No record, no evaluation, no plan, and nothing in the cache."""
        left = [p for p in (*self.runs.rglob("*"), *self.cache.rglob("*")) if p.is_file()]
        names = {p.name for p in left}
        assert names <= {".lock", "run.log", "multirun.yaml"}, names


def environment() -> dict[str, str]:
    """This process's environment, without a network."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def measured(record: dict[str, Any]) -> dict[str, float]:
    """Measured values of a record by name."""
    return {m["name"]: m["value"] for m in record["results"]["measurements"]}


def sentence(draw: random.Random, words: int) -> str:
    """A sentence of random words."""
    return " ".join(draw.choices(TEXT.split(), k=words)).capitalize() + "."


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_data(root: Path) -> None:
    """Two texts of some thousand characters, and dialogues with summaries."""
    draw = random.Random(0)
    for dataset, splits in {
        "wikitext2": ("train", "validation", "test"),
        "c4": ("train", "validation"),
    }.items():
        for split in splits:
            rows = [{"text": sentence(draw, 12)} for _ in range(24)]
            write_rows(root / dataset / f"{split}.jsonl", rows)
    for split, count in (("validation", 8), ("test", 8), ("train", 16)):
        rows = []
        for k in range(count):
            turns = [f"#Person{1 + t % 2}#: {sentence(draw, 3 + k)}" for t in range(2)]
            rows.append(
                {
                    "id": f"{split}_{k}" + "_1" * (split == "test"),
                    "dialogue": "\n".join(turns),
                    "summary": sentence(draw, 6),
                }
            )
        write_rows(root / "dialogsum" / f"{split}.jsonl", rows)


@cache
def load_script(path: Path) -> ModuleType:
    """A ``run.py`` as a module, made once; its configuration is the ``conf`` beside it."""
    spec = importlib.util.spec_from_file_location(f"run_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Call = Callable[..., Ended]

SWEEP = ("-m", "method=flrc,svdllm", "rate=0.2,0.3")
"""The README's sweep; its jobs, in order, by the beginning of their folder's name:"""
JOBS = (
    "whitened-proportional-progressive-r0.2-",
    "whitened-proportional-progressive-r0.3-",
    "whitened-uniform-constant-r0.2-",
    "whitened-uniform-constant-r0.3-",
)


FIRST = ("method=flrc", "rate=0.2")
"""Its first job alone."""


@dataclass(frozen=True)
class Swept:
    """A sweep that ran without interruption."""

    place: Place
    ended: Ended
    seconds: float


def snapshot(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every result in these run folders."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in sorted(folder.rglob("*.json"))
    }
