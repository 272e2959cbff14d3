"""Finds the dense model that a compressed one was made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from flrc.config import components
from flrc.errors import UserError
from flrc.library.compression import configuration, model_override
from flrc.library.in_memory_model import InMemoryModel
from flrc.library.model_checks import check_model
from flrc.models.checkpoints.weights import add_tensors
from flrc.models.sources.base import ModelSource
from flrc.models.sources.loading import load_model
from flrc.results.records.lookup import find_run

if TYPE_CHECKING:
    from flrc.core.cache import StageCache
    from flrc.library.student import Student
    from flrc.results.records.record import Record

ALLOWED = "the dense model that was compressed: in memory, or its name or path"


@dataclass(frozen=True)
class Teacher:
    """A dense model; one by name is loaded when it is needed.

    Attributes:
        label: Its name for records.
        fingerprint: Digest of what determines its numbers.
        load: Loads it, or returns the caller's own.
    """

    label: str
    fingerprint: str
    load: Callable[[], PreTrainedModel]


def teacher_of(
    given: PreTrainedModel | str | Path | None, student: Student, runs: Path, cache: StageCache
) -> Teacher:
    """The teacher of a compressed model, checked but not loaded.

    Args:
        given: The model itself, its name or path; None: what the record says.
        student: The compressed model.
        runs: Where the record of its run is, with whole paths.
        cache: For models that are converted before they are loaded.

    Raises:
        UserError: If it is not there, or is no dense model, or not the one that was compressed.
    """
    if given is None:
        return _of_source(_recorded(student.record, runs), student, cache)
    if isinstance(given, str | Path):
        with _naming_teacher(f"teacher={given}"):
            source = configuration([model_override(given)]).model
            source.check_available()
            return _of_source(source, student, cache)
    with _naming_teacher(f"teacher={type(given).__name__}"):
        check_model(given)
    dtype = str(given.dtype).removeprefix("torch.")
    if dtype != student.dtype:
        raise UserError(
            "the teacher's dtype is not that of the compressed model",
            given=f"teacher of {dtype}, model of {student.dtype}",
            allowed="one dtype for both",
            fix=f"teacher.to(torch.{student.dtype}), or the teacher's name, teacher=...",
        )
    return Teacher(str(given.config.model_type), _fingerprint(given), lambda: given)


def _of_source(source: ModelSource, student: Student, cache: StageCache) -> Teacher:
    def load() -> PreTrainedModel:
        with _naming_teacher(source.where):
            source.convert(cache, student.dtype)
            return load_model(source, student.dtype, student.device, student.placement)

    return Teacher(source.label, source.fingerprint(), load)


def _recorded(record: Record | None, runs: Path) -> ModelSource:
    """The source of the model that the run of a record compressed, as long as it is the same."""
    if record is None:
        raise _unknown("the checkpoint was saved without the record of its run")
    whole = _in_runs(record, runs)
    values = dict((whole.run.get("config") or {}).get("model") or {})
    name, label = str(values.get("name")), str(values.get("label"))
    hub = (record.meta.get("base_model") or {}).get("id")
    if name == InMemoryModel.component_name():
        raise _unknown(f"{label} was compressed in memory", hub)
    if (kind := components("model").get(name)) is None:
        raise _unknown(f"the record of run {record.run['id']} names no source of models", hub)
    if "revision" in values and "model_commit" in record.meta:
        values["revision"] = record.meta["model_commit"]  # a branch may have moved on
    with _naming_teacher(label):
        try:
            source = kind(**values)
        except TypeError as error:  # another version's record
            raise _unknown(f"{label}: {error}", hub) from error
        assert isinstance(source, ModelSource)
        source.check_available()
        found = source.fingerprint()
    if found != record.meta.get("model_revision"):
        raise UserError(
            "the dense model is not the one that was compressed: its files have changed",
            given=f"{source.where}, fingerprint {found[:12]}",
            allowed=f"the model of run {record.run['id']}, fingerprint "
            f"{str(record.meta.get('model_revision'))[:12]}",
            fix="teacher=..., the dense model that was compressed",
        )
    return source


def _in_runs(record: Record, runs: Path) -> Record:
    """The run's own record, whose paths are whole; else this one, as saved with the checkpoint."""
    if runs.is_dir():
        try:
            return find_run(str(record.run["id"]), runs)[1]
        except UserError:  # the checkpoint comes from elsewhere
            pass
    return record


def _unknown(why: str, hub: str | None = None) -> UserError:
    name = "MODEL" if hub is None else f'"{hub}"'
    return UserError(
        "it is not known where the dense model is that was compressed",
        given=why,
        allowed=ALLOWED,
        fix=f"teacher={name}, the dense model that was compressed",
    )


@contextmanager
def _naming_teacher(given: str) -> Iterator[None]:
    """Errors say that the teacher is meant, and how to give another one."""
    try:
        yield
    except UserError as error:
        if "teacher=" in (error.fix or ""):
            raise
        details = "" if error.given is None or str(error.given) in given else f": {error.given}"
        raise UserError(
            f"the teacher, the dense model, cannot be used: {error.problem}",
            given=f"{given}{details}",
            allowed=error.allowed or ALLOWED,
            fix="teacher=..., the dense model that was compressed"
            + (f" ({error.fix})" if error.fix else ""),
        ) from error


def _fingerprint(model: PreTrainedModel) -> str:
    digest = hashlib.sha256(model.config.to_json_string(use_diff=True).encode())
    digest.update(str(model.config._attn_implementation).encode())
    add_tensors(digest, model.state_dict())
    return digest.hexdigest()
