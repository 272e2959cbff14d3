"""The folder of one run: its files and its lock; and how to find the runs below a folder."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flrc.core import jsonfile
from flrc.core.commands import as_called
from flrc.errors import UserError
from flrc.results.records.measurement import Measurement, Outcome
from flrc.results.records.record import SCHEMA, Record

log = logging.getLogger(__name__)

RECORD = "record.json"
PLAN = "plan.json"
EVALUATIONS = "evaluations"
NOT_RUNS = {EVALUATIONS, "wandb", "model"}
"""Folders of a run that are not searched for records; a model may have one of these names."""


@dataclass(frozen=True)
class RunFolder:
    """One run: ``runs/<model>/<decomposition>-<allocator>-<schedule>-r<rate>-<run_id>``."""

    path: Path

    @property
    def model(self) -> Path:
        """Folder of the compressed model, if it is saved."""
        return self.path / "model"

    @classmethod
    def of(
        cls,
        runs: Path,
        *,
        model: str,
        decomposition: str,
        allocator: str,
        schedule: str,
        rate: float,
        run_id: str,
    ) -> RunFolder:
        """The folder of a run; nothing is created."""
        name = f"{decomposition}-{allocator}-{schedule}-r{rate:.10g}-{run_id}"
        return cls(runs / _safe(model) / _safe(name))

    @classmethod
    def of_record(cls, record: Record) -> RunFolder:
        """The folder in which a run that compresses has just written this record."""
        run = record.run
        return cls.of(
            Path(run["config"]["paths"]["runs"]).expanduser().resolve(),
            model=model_name(record),
            rate=float(run["config"]["rate"]),
            run_id=str(run["id"]),
            **{
                slot: run["components"][slot] for slot in ("decomposition", "allocator", "schedule")
            },
        )

    @contextmanager
    def lock(self, timeout: float = -1) -> Iterator[None]:
        """Lock the folder; the operating system releases the lock however the process ends.

        Raises:
            UserError: If another process still holds it after ``timeout`` seconds (negative: no
                limit).
        """
        self.path.mkdir(parents=True, exist_ok=True)
        held = FileLock(self.path / ".lock")
        try:
            held.acquire(timeout=0)
        except Timeout:
            log.info("%s is in use by another process; waiting for it", self.path)
            try:
                held.acquire(timeout=timeout)
            except Timeout:
                raise UserError(
                    "another process is working on this run",
                    given=str(self.path),
                    fix="wait until it has ended, then run the same command again",
                ) from None
        try:
            yield
        finally:
            held.release()

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the folder atomically (see :mod:`flrc.core.jsonfile`)."""
        jsonfile.write(self.path / name, value)

    def read_json(self, name: str) -> Any | None:
        """A file's content; None if it is missing, or damaged (which is logged as a warning)."""
        path = self.path / name
        try:
            return jsonfile.read(path)
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            log.warning("%s cannot be read and counts as missing: %s", path, error)
            return None

    def read_record(self, name: str = RECORD) -> Record | None:
        """The run's record; None if it is missing, or damaged (which is logged as a warning).

        ``name`` is that of the file; beside a checkpoint it has another one.

        Raises:
            UserError: If a newer version wrote it; it must not be overwritten.
        """
        values = self.read_json(name)
        if values is None:
            return None
        self._refuse_newer(name, values)
        try:
            return _record(values)
        except ValueError as error:
            log.warning("%s cannot be read and counts as missing: %s", self.path / name, error)
            return None

    def _refuse_newer(self, name: str, values: Any) -> None:
        schema = values.get("schema") if isinstance(values, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise UserError(
                "a newer version of flrc wrote this file",
                given=f"{self.path / name}: schema {schema}",
                allowed=f"schema {SCHEMA} and older",
                fix="update flrc, or name another folder with paths.runs",
            )

    def write_record(self, record: Record) -> None:
        """Write ``record.json``."""
        self.write_json(RECORD, record.to_json())

    def write_plan(self, plan: dict[str, Any]) -> None:
        """Write ``plan.json``."""
        self.write_json(PLAN, plan)

    def evaluation_file(self, name: str, part: str, settings: dict[str, Any]) -> str:
        """File of one part of an evaluation, relative to the folder."""
        return f"{EVALUATIONS}/{_safe(name)}.{_safe(part)}-{jsonfile.digest(settings)}.json"

    def save_evaluation(
        self,
        name: str,
        part: str,
        settings: dict[str, Any],
        outcome: Outcome,
        tokens: str | None = None,
    ) -> None:
        """Save a part as soon as it is computed, so that a restart does not compute it again.

        The settings also determine the file's name; ``tokens`` is the digest of the token ids that
        were read.
        """
        self.write_json(
            self.evaluation_file(name, part, settings),
            {
                "schema": SCHEMA,
                "status": "ok",
                "evaluation": name,
                "part": part,
                "settings": settings,
                **({} if tokens is None else {"tokens": tokens}),
                "measurements": [dataclasses.asdict(m) for m in outcome.measurements],
                "items": outcome.items,
            },
        )

    def load_evaluation(
        self, name: str, part: str, settings: dict[str, Any], tokens: str | None = None
    ) -> Outcome | None:
        """Load what :meth:`save_evaluation` saved, if it has exactly these settings and tokens.

        Version 0.1 saved no tokens: the run's id determines model, tokenizer and data.

        Returns:
            None if there is no such file, or if it is damaged, not ``ok``, or has other settings or
            tokens; all but the first are logged as a warning.

        Raises:
            UserError: If a newer version wrote it.
        """
        file = self.evaluation_file(name, part, settings)
        values = self.read_json(file)
        if values is None:
            return None
        self._refuse_newer(file, values)
        try:
            if values["schema"] != SCHEMA or values["status"] != "ok":
                raise ValueError(f"schema {values['schema']!r}, status {values['status']!r}")
            if jsonfile.canonical(values["settings"]) != jsonfile.canonical(settings):
                raise ValueError("it was made under other settings")
            if tokens is not None and values.get("tokens", tokens) != tokens:
                raise ValueError("it was measured on other tokens")
            measurements = [Measurement(**m) for m in values["measurements"]]
            return Outcome(measurements, values["items"])
        except (KeyError, TypeError, ValueError) as error:
            log.warning("%s counts as missing: %s", self.path / file, error)
            return None

    def evaluations(self, record: Record) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and content of the evaluation files behind a record's measurements.

        The folder may have others, from earlier commands with other settings.
        """
        known = {jsonfile.canonical(m) for m in record.results.get("measurements", [])}
        for path in sorted((self.path / EVALUATIONS).glob("*.json")):
            values = self.read_json(f"{EVALUATIONS}/{path.name}")
            if isinstance(values, dict) and all(
                jsonfile.canonical(m) in known for m in values["measurements"]
            ):
                yield path.name, values


def find_folders(root: Path) -> list[tuple[RunFolder, Record]]:
    """Every run below ``root`` (or at it) that has a readable record, in a stable order.

    The order is model, rate, method, components, seed, id. Records that cannot be read are skipped
    with a warning that names file and reason.

    Raises:
        UserError: If ``root`` does not exist, or a newer version wrote one of the records.
    """
    if not root.exists():
        raise UserError(
            "the folder of runs does not exist",
            given=str(root),
            allowed="a folder of runs (paths.runs), or the folder of one run",
            fix=as_called(),
        )
    known = []
    for folder, below, files in os.walk(root):
        pruned = NOT_RUNS if RECORD in files else set()
        below[:] = sorted(name for name in below if name not in pruned)
        if RECORD in files:
            record = RunFolder(Path(folder)).read_record()
            if record is not None:
                known.append((RunFolder(Path(folder)), record))
    return sorted(known, key=lambda pair: (_order(pair[1]), str(pair[0].path)))


def no_records(folder: Path) -> UserError:
    """What to raise for a folder without records."""
    return UserError(
        "no records in this folder",
        given=str(folder),
        allowed="a folder that holds record.json files, at any depth",
    )


def find_records(root: Path) -> list[Record]:
    """The records of :func:`find_folders`."""
    return [record for _, record in find_folders(root)]


def model_name(record: Record) -> str:
    """The label of the model that a run compressed, else its name; ``?`` if it has neither."""
    model = record.run.get("config", {}).get("model", {})
    return str(model.get("label") or model.get("name") or "?")


def requested_rate(record: Record) -> float:
    """The requested rate: from the results, or for a failed run from its configuration."""
    rate = record.results.get("rate", {}).get("requested")
    if rate is None:
        rate = record.run.get("config", {}).get("rate", 0.0)
    return 0.0 if record.run.get("method") == "dense" else float(rate)


def _record(values: Any) -> Record:
    try:
        record = Record.from_json(values)
        _ = (record.run["id"], record.run["status"], record.run["method"], record.measurements)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a record: {type(error).__name__} {error}") from error
    return record


def _order(record: Record) -> tuple[str, float, str, str, int, str]:
    run = record.run
    components = jsonfile.canonical(run.get("components", {}))
    seed = int(run.get("seed") or 0)
    rate = requested_rate(record)
    return (model_name(record), rate, str(run["method"]), components, seed, str(run["id"]))


def _safe(name: str) -> str:
    """``name`` as one path component: all but letters, digits and ``._-`` becomes ``_``."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return "_" * len(safe) if safe in (".", "..") else safe
