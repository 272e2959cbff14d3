"""The environment of a run, for its record: versions, commit, command, threads; its log file."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from flrc.core import job_process
from flrc.core.commit import git_state
from flrc.core.devices import resolve_device
from flrc.core.shipped import in_checkout
from flrc.results.records.record import METHOD_SLOTS
from flrc.running.identity import run_id

if TYPE_CHECKING:
    from flrc.config import RunConfig
    from flrc.results.records.record import Record

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "hydra-core",
    "lm-eval",
    "rouge-score",
    "bert-score",
    "evaluate",
    "numpy",
)
SLOTS = (*METHOD_SLOTS, "runtime", "calibration", "data")
"""Components that a record names."""


def run_block(config: RunConfig) -> dict[str, Any]:
    """The ``run`` part of a record."""
    values = config.to_plain()
    return {
        "id": run_id(config),
        "method": config.method.name,
        # A slot that was added later is named if it is used, as in the configuration.
        "components": {slot: values[slot]["name"] for slot in SLOTS if slot in values},
        "config": values,
        "seed": config.seed,
        "study": config.study,
    }


def meta_block(config: RunConfig) -> dict[str, Any]:
    """The ``meta`` part of a record, but for the stages."""
    return {
        "git": git_state(),
        "versions": {
            "python": platform.python_version(),
            # Without a commit, the version says which code it was.
            **installed_versions(PACKAGES if in_checkout() else ("flrc", *PACKAGES)),
        },
        "model_revision": config.model.fingerprint(),
        **({} if (commit := config.model.commit()) is None else {"model_commit": commit}),
        "base_model": config.model.origin(),
        "device": str(resolve_device(config.device)),
        "processor": platform.processor() or platform.machine(),
        "dtype": config.dtype,
        "threads": config.threads or torch_threads(),
        "command": present_command(),
        **_job_overrides(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command_of_measurements(config: RunConfig, earlier: Record | None) -> dict[str, Any]:
    """The command of an earlier record, for one that takes all its measurements from there.

    ``flrc compress`` and :func:`flrc.compress` measure nothing, so they cannot repeat what the
    record says; the command that measured can.
    """
    if config.evaluation or earlier is None or not earlier.measurements:
        return {}
    return {key: earlier.meta[key] for key in ("command", "overrides") if key in earlier.meta}


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


_CALL: ContextVar[str] = ContextVar("call", default="")


@contextmanager
def called_as(call: str) -> Iterator[None]:
    """While active, records name this call, not the command line, as what made them.

    Within another call, the outer one is named.
    """
    token = _CALL.set(_CALL.get() or call)
    try:
        yield
    finally:
        _CALL.reset(token)


def present_command() -> str:
    """The command line of this process, or the call that :func:`called_as` names."""
    return _CALL.get() or _command_line()


def _command_line() -> str:
    return " ".join([Path(sys.argv[0]).name, *job_process.user_overrides(sys.argv[1:])])


def _job_overrides() -> dict[str, list[str]]:
    """The overrides of this job alone, where the command line may be a sweep's."""
    if _CALL.get() or not HydraConfig.initialized():
        return {}
    given = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(given, list)
    return {"overrides": job_process.user_overrides([str(override) for override in given])}


def torch_threads() -> int:
    """Threads that torch uses for one operation."""
    import torch

    return torch.get_num_threads()


def set_threads(threads: int | None) -> None:
    """Use this many threads; None leaves torch's choice."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Everything that is logged also goes to the run's own file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
