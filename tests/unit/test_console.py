"""The console command: what it calls, what it answers by itself, a checkpoint in one line."""

from __future__ import annotations

import json
import logging
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import records_factory as factory
from saved_models import saved
from tiny import CONF, GROUPS, ROOT

import flrc
from flrc.console.main import MAINS, main
from flrc.core import commands, commit, shipped
from flrc.core.commands import as_called
from flrc.library.checkpoint_folder import checkpoint_folder
from flrc.results.records.checkpoint_places import noted
from flrc.results.records.own_command import own_command
from flrc.results.records.record import Record
from flrc.results.records.sharing import shareable
from flrc.results.records.store import RunFolder
from flrc.running.environment import called_as, meta_block
from flrc.sweeps import help_text

SMALL = ("device=cpu", "calibration.samples=4", "calibration.length=64")


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As started by the script that an installation makes, in an empty folder."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/flrc"])
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def write(runs: Path, record: Record) -> None:
    folder = RunFolder(runs / "tiny" / str(record.run["id"]))
    folder.path.mkdir(parents=True)
    folder.write_record(record)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("given", [("--help",), ("-h",), (), ("method=flrc", "--help")])
def test_help(
    given: tuple[str, ...],
    width: int,
    console: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(given) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "schema" not in out
    assert max(map(len, lines)) <= min(width, help_text.WIDEST)
    for group in GROUPS - {"hydra"}:
        (line,) = (line for line in lines if line.startswith(f"  {group:14}"))
        options = {path.stem for path in (CONF / group).glob("*.yaml")}
        named = line.rpartition("[")[2].rstrip("]").split(", ")
        more = int(named.pop().split()[0]) if named[-1].endswith((" more", " options")) else 0
        assert set(named) <= options
        assert len(named) + more == len(options)
    assert {line.split()[1] for line in lines if line.startswith("  flrc ")} >= {*MAINS}
    assert sum(line.startswith(("  flrc method=", "  flrc -m ")) for line in lines) == 3


def test_the_examples_of_the_help_are_accepted(
    console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shlex

    from flrc.config import register
    from flrc.sweeps.arguments import Command
    from flrc.sweeps.override_checks import check_overrides

    register()
    text = help_text.help_text(Command.of(str(CONF), []).location)
    examples = [line for line in text.splitlines() if line.startswith(("  flrc m", "  flrc -m"))]
    for example in examples:
        command = Command.of(str(CONF), shlex.split(example)[1:])
        check_overrides(command.location, command.overrides, command.multirun)


def test_help_names_options_of_further_folders(
    console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "form").mkdir()
    (tmp_path / "form" / "mine.yaml").write_text("name: mine\n", "utf-8")
    assert main([f"--config-dir={tmp_path}", "--help"]) == 0
    assert "[two_factor, mine, pivoted]" in capsys.readouterr().out


def test_help_takes_little_time() -> None:
    """A tenth of it, by itself; Hydra's own help takes ten times as long."""

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu()
    done = subprocess.run(
        [sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert cpu() - before < 2
    assert done.stdout.startswith("flrc: ")
    assert "python run.py method=flrc" in done.stdout
    assert done.stderr == ""


def test_version(console: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    state = commit.git_state()
    dirty = ", modified" if state["dirty"] else ""
    expected = f" (commit {state['commit'][:12]}{dirty})" if state["commit"] else ""
    assert capsys.readouterr().out == f"flrc {flrc.__version__}{expected}\n"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("comprss", "compress"), ("record", "records"), ("reporting", "report"), ("chta", "chat")],
)
def test_a_mistyped_command(
    given: str, nearest: str, console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([given, "runs"]) == 1
    assert f"nearest: {nearest}\n" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_commands_take_their_arguments(
    console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    record = factory.record("kfac")
    write(tmp_path / "runs", record)
    assert main(["records", "ls"]) == 0
    assert record.run["id"] in capsys.readouterr().out
    assert main(["records", "show", "x"]) == 1
    assert "flrc records ls lists them" in capsys.readouterr().err.replace("\n", " ")
    assert main(["report", "runs", "--format", "csv"]) == 0
    assert (tmp_path / "runs" / "report" / "table.csv").is_file()
    assert main(["export", "nowhere", "runs"]) == 1
    assert main(["chat", "nowhere"]) == 2
    assert main(["publish", "runs", "--scale", "small"]) == 1
    assert "--scale needs --study" in capsys.readouterr().err
    for command in MAINS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: flrc {command}".removesuffix(" publish"))
        assert "``" not in text
        assert "python -m" not in text


def test_commands_name_a_missing_extra_before_they_read_anything(
    console: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    write(tmp_path / "runs", factory.record("kfac"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    for words, extra in (
        (["report", "runs", "--format", "plot"], "report"),
        (["report", "runs", "--html", "page.html"], "report"),
        (["publish", "runs"], "wandb"),
    ):
        assert main(words) == 1
        assert f"pip install 'flrc[{extra}]'" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "report").exists()
    assert main(["report", "runs"]) == 0
    written = {path.name for path in (tmp_path / "runs" / "report").iterdir()}
    assert written == {"table.md", "table.csv", "table.tex"}


def test_how_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for program, inside, run, chat in (
        ("/bin/flrc", True, "flrc", "flrc chat"),
        ("run.py", True, "python run.py", "python -m flrc.chat"),
        ("/home/me/notebook.py", False, "flrc", "flrc chat"),
    ):
        monkeypatch.setattr(sys, "argv", [program])
        monkeypatch.setattr(commands, "in_checkout", lambda inside=inside: inside)
        assert (as_called(), as_called("chat")) == (run, chat)


def test_a_command_is_named_as_the_shell_finds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "flrc"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert as_called("records") == ".venv/bin/python -m flrc.records"
    assert as_called("records", here=False) == "python -m flrc.records"
    own = own_command(Record({}, meta={"command": "run.py rate=0.3"}), "model.save=true")
    assert own == ".venv/bin/python run.py rate=0.3 model.save=true"
    monkeypatch.setattr(sys, "argv", [".venv/bin/flrc"])
    assert as_called("records") == ".venv/bin/flrc records"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin")
    assert as_called("records") == "flrc records"
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert as_called() == "python run.py"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    monkeypatch.setenv("PATH", "/usr/bin")
    assert as_called() == f"{programs / 'python'} run.py"


def test_every_command_has_a_line_in_the_help_and_a_module() -> None:
    assert help_text.ABOUT.keys() == MAINS.keys()
    assert commands.MODULES.keys() == MAINS.keys() - {"compress"}


def test_what_an_installed_package_reads_and_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shipped.conf_folder() == CONF
    assert shipped.experiments_folder() == ROOT / "experiments"
    installed = tmp_path / "site-packages" / "flrc"
    (installed / "conf").mkdir(parents=True)
    for module in (shipped, commit):
        monkeypatch.setattr(module, "PACKAGE", installed)
    with pytest.raises(flrc.errors.UserError, match="configuration files are missing"):
        shipped.conf_folder()
    (installed / "conf" / "config.yaml").touch()
    assert shipped.conf_folder() == installed / "conf"
    assert shipped.experiments_folder() == installed / "experiments"
    assert commit.git_state() == {"commit": None, "dirty": None}


def test_a_checkpoint_in_one_line(
    console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved(tmp_path / "model", max_position_embeddings=2048)
    words = ["compress", "./model", "-o", "out", "--rate", "0.3", *SMALL]
    assert main([*words, "--method", "svdllm"]) == 0
    out = capsys.readouterr().out
    assert "saved: out\n" in out
    assert "next:  flrc chat out\n" in out
    model = flrc.load("out", "cpu")
    assert model.flrc.record.meta["command"].startswith("flrc compress")
    assert "library_name: transformers" in Path("out/README.md").read_text()
    assert flrc.generate(model, "Name a river.", max_new_tokens=2) is not None
    (path,) = (tmp_path / "runs").glob("*/*/record.json")
    record = json.loads(path.read_text("utf-8"))
    assert record["results"]["measurements"] == []
    command = "flrc " + " ".join([*words, "--method", "svdllm"])
    assert record["meta"]["command"] == command


def test_the_id_of_a_compressed_model_finds_it_where_it_was_saved(
    console: None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved(tmp_path / "model", max_position_embeddings=2048)
    words = ["compress", "./model", *SMALL, "--method", "svdllm", "--output=my out"]
    assert main(words) == 0
    (path,) = (tmp_path / "runs").glob("*/*/record.json")
    run_id = json.loads(path.read_text("utf-8"))["run"]["id"]
    out = tmp_path / "my out"
    for given in (run_id, str(path.parent)):
        assert checkpoint_folder(given) == out
    assert main(["export", run_id, "dense"]) == 0
    record = RunFolder(path.parent).read_record()
    assert record is not None
    assert [place["folder"] for place in noted(record)] == [str(out)]
    capsys.readouterr()
    assert main(["records", "show", run_id]) == 0
    assert f"checkpoints  {out}" in capsys.readouterr().out.replace("\n", "")
    assert noted(shareable(record)) == []  # of no use on another machine
    # A later command writes the record anew, and knows it still.
    capsys.readouterr()
    again = ["model=./model", "method=svdllm", "rate=0.2", *SMALL, "evaluation=[perplexity]"]
    assert main([*again, "evaluation.perplexity.windows=1", "tracker=none"]) == 0
    assert checkpoint_folder(run_id) == out
    assert f"flrc chat {run_id}" in capsys.readouterr().out

    def refused() -> str:
        with pytest.raises(flrc.errors.UserError, match="has no checkpoint") as caught:
            checkpoint_folder(run_id)
        assert f"(saved to {out}" in str(caught.value.given)
        return str(caught.value.fix)

    values = json.loads(path.read_text("utf-8"))
    values["meta"]["command"] = shlex.join(["flrc", *words])
    path.write_text(json.dumps(values), "utf-8")
    manifest = json.loads((out / "flrc.json").read_text("utf-8"))
    (out / "flrc.json").write_text(json.dumps(manifest | {"digest": "of another model"}), "utf-8")
    fix = refused()  # the folder has another model by now: the command has a new one
    assert shlex.split(fix)[-2:] == ["-o", "my out-2"]
    assert main(shlex.split(fix)[1:]) == 0
    assert checkpoint_folder(run_id) == tmp_path / "my out-2"
    shutil.rmtree(out)
    shutil.rmtree("my out-2")
    assert shlex.split(refused())[-2:] == ["-o", "my out"]


def test_the_card_names_the_command_that_made_the_checkpoint(
    console: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of a run that was measured before, or is measured after."""
    saved(tmp_path / "model", max_position_embeddings=2048)
    settings = ["method=svdllm", "rate=0.2", *SMALL, "evaluation=[perplexity]"]
    settings += ["evaluation.perplexity.windows=1", "evaluation.perplexity.length=64"]
    compress = ["compress", "./model", *SMALL, "--method", "svdllm", "-o"]

    def measured(*words: str) -> str:
        line = ["model=./model", *settings, *words]
        monkeypatch.setattr(sys, "argv", ["flrc", *line])
        assert main(line) == 0
        return " ".join(["flrc", *line])

    def said() -> tuple[str | None, str | None]:
        (path,) = (tmp_path / "runs").glob("*/*/record.json")
        meta = json.loads(path.read_text("utf-8"))["meta"]
        return meta["command"], meta.get("made_by")

    first = measured()
    assert said() == (first, None)
    assert main([*compress, "out"]) == 0
    maker = " ".join(["flrc", *compress, "out"])
    assert said() == (first, maker)
    card = Path("out/README.md").read_text("utf-8")
    shown = maker.replace("./model", "model")  # no path of this machine
    assert f"The command:\n\n    {shown}\n" in card
    assert f"The command that measured:\n\n    {first.replace('./model', 'model')}\n" in card
    later = measured("force=true")
    assert said() == (later, maker)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "full"], "the folder is not empty"),
        (["-o", "."], "current folder"),
        (["-o", "full/file"], "is not a folder"),
        (["-o", "out", "--method", "svdlm"], "did you mean svdllm?"),
        (["-o", "out", "--rate", "1.5"], "rate is out of range"),
        (["-o", "out", "calibration.sampels=4"], "calibration.samples"),
        (["-o", "out", "--method", "dense"], "nothing would be compressed"),
        (["-o", "out", "rate=0.3"], "fix:     --rate 0.3\n"),
        (["-o", "out", "method=svdllm", "device=cpu"], "fix:     --method svdllm\n"),
        (["-o", "out", "++seed=3"], "fix:     --seed 3\n"),
        (["-o", "out", "model=./folder"], "fix:     flrc compress ./folder\n"),
        (["-o", "out", "model.save=true"], "saves the model in any case"),
        (["-o", "out", "dry_run=true"], "fix:     flrc dry_run=true"),
        (
            ["-o", "out", "evaluation.perplexity.windows=4"],
            "fix:     evaluation=[perplexity] evaluation.perplexity.windows=4\n",
        ),
        (["-o", "out", "launcher=joblib"], "one run has no launcher"),
    ],
)
def test_mistakes_are_found_before_any_work(
    words: list[str],
    message: str,
    console: None,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    if "." in words:
        (tmp_path / "full" / "file").unlink()
        (tmp_path / "full").rmdir()
    assert main(["compress", "tiny", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rate", ["20%", "abc"])
def test_a_rate_that_is_no_number(
    rate: str, console: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["compress", "tiny", "-o", "out", "--rate", rate])
    assert end.value.code == 2
    assert "such as 0.2 for 20 %" in capsys.readouterr().err


def test_the_outer_call_is_the_command_of_a_record() -> None:
    from flrc.running import environment

    with called_as("flrc compress x"), called_as("flrc.compress('x')"):
        assert environment._CALL.get() == "flrc compress x"
    assert environment._CALL.get() == ""
    assert meta_block is not None
