"""Bars and reports of other libraries do not reach the log."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from test_gguf import write
from tiny import CONF
from transformers.utils import logging as switches

import flrc
from flrc.core.cache import StageCache
from flrc.core.library_output import without_bars
from flrc.library.compressed_model import loaded_of
from flrc.models.checkpoints.dense_export import export
from flrc.models.sources.local import Local

TEXTS = ["a fox that ran over the hill " * 4, "and slept soon after that " * 6]


@pytest.fixture(autouse=True)
def bars() -> Any:
    """The libraries' bars are on, as in a new process."""
    switches.enable_progress_bar()
    yield
    switches.disable_progress_bar()


def test_converting_a_gguf_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = Local(path=str(write(tmp_path / "tiny.gguf")))
    source.convert(StageCache(tmp_path / "cache", 10**9), "float32")
    source.load("float32")
    assert "%|" not in "".join(capfd.readouterr())


def test_saving_and_exporting(
    make_model: Callable[..., Any],
    tokenizer: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    model, _ = flrc.compress(
        make_model(), tokenizer, method="svdllm", calibration=TEXTS,
        overrides=[f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"],
    )  # fmt: skip
    flrc.save(model, tmp_path / "kept")
    export(loaded_of(flrc.load(tmp_path / "kept", "cpu")), tmp_path / "dense")
    assert "%|" not in "".join(capfd.readouterr())
    assert "successfully saved" not in caplog.text


def test_the_callers_bars_come_back() -> None:
    import transformers.modeling_gguf_pytorch_utils as gguf

    before = gguf.tqdm  # type: ignore[attr-defined]
    with without_bars():
        assert not switches.is_progress_bar_enabled()
        assert are_progress_bars_disabled()
    assert switches.is_progress_bar_enabled()
    assert not are_progress_bars_disabled()
    assert gguf.tqdm is before  # type: ignore[attr-defined]


def test_drawing_a_plot_logs_nothing(tmp_path: Path) -> None:
    program = (
        "import logging.config, pathlib, yaml;"
        f"path = pathlib.Path({str(CONF)!r}) / 'hydra' / 'job_logging' / 'flrc.yaml';"
        "logging.config.dictConfig(yaml.safe_load(path.read_text()));"
        "import matplotlib; matplotlib.use('agg'); matplotlib.rcParams['pdf.fonttype'] = 42;"
        "from matplotlib import pyplot; pyplot.plot([1, 2]); pyplot.title('a');"
        f"pyplot.savefig({str(tmp_path / 'plot.pdf')!r});"
        "logging.getLogger('flrc').info('ours')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "INFO ours\n")
