"""``flrc compress MODEL -o FOLDER``: save a compressed model in one line. Nothing is evaluated."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from flrc.core.commands import as_called, description
from flrc.core.error_output import print_error, print_failure
from flrc.core.imports import uncollected
from flrc.errors import UserError
from flrc.export import check_target
from flrc.library.overrides import ARGUMENTS, evaluates
from flrc.models.checkpoints.save_folder import check_save_folder
from flrc.sweeps.command_line import INTERRUPTED
from flrc.sweeps.malformed_words import shown
from flrc.sweeps.overrides import parse


def main(arguments: Sequence[str]) -> int:
    """Compress and save; returns 0, 1 if that failed, 130 after Ctrl-C."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        _check_settings(options.overrides)
        check_target(options.output)
        check_save_folder(options.output)
        _compress(options, shlex.join(["flrc", "compress", *arguments]))
    except KeyboardInterrupt:
        print_error("interrupted; the same command computes only what is missing")
        return INTERRUPTED
    except Exception as error:
        return print_failure(error, "the model was not compressed")
    return 0


def _check_settings(settings: Sequence[str]) -> None:
    """Raise UserError for a setting that this command says otherwise, with how it says it."""
    parsed = parse(settings)
    for override in parsed:
        key, given = override.key_or_group, override.input_line
        value = given.partition("=")[2]
        if key in ARGUMENTS:
            problem, fix = f"{key} is an option of this command", f"--{key} {shown(value)}"
        elif key == "model":
            problem, fix = "the model is the first argument", f"flrc compress {shown(value)}"
        elif key == "model.save":
            problem, fix = "this command saves the model in any case", "leave it out"
        elif key == "dry_run":
            problem = "this command makes a model, and a dry run makes none"
            fix = f"{as_called()} dry_run={value} ..."
        elif key.startswith("evaluation.") and not evaluates(parsed):
            problem = "this command evaluates only what it is told to"
            fix = f"evaluation=[{key.split('.')[1]}] {shown(given)}"
        else:
            continue
        raise UserError(problem, given=given, fix=fix)


def _compress(options: argparse.Namespace, command: str) -> None:
    with uncollected():
        from flrc.library.compression import compress  # imports torch
        from flrc.library.saving import save
        from flrc.results.records.checkpoint_places import note_checkpoint
        from flrc.running.environment import called_as
    with called_as(command):
        model, record = compress(
            options.model,
            method=options.method,
            rate=options.rate,
            seed=options.seed,
            overrides=options.overrides,
        )
    save(model, options.output)
    note_checkpoint(record, options.output)
    written = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    dense = record.results["bytes"]["model_dense"]
    print(  # noqa: T201
        f"\nsaved: {options.output}\n"
        f"size:  {_megabytes(written)}; the weights of the dense model have {_megabytes(dense)}\n"
        f"next:  {as_called('chat')} {shlex.quote(str(options.output))}"
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number; the share that is removed, such as 0.2 for 20 %"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="flrc compress", description=description(__doc__))
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="OWNER/NAME on the Hub, a folder, a GGUF file, or a preset such as smollm2_135m",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the model goes; must not exist, or be empty",
    )
    parser.add_argument("--method", default="flrc", help="one of conf/method (default: flrc)")
    parser.add_argument(
        "--rate", type=_rate, default=0.2, help="share that is removed (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="any setting of a run, as in device=cuda dtype=bfloat16 calibration.samples=64",
    )
    return parser
