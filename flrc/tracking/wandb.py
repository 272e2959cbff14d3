"""Weights & Biases: one page per finished run, online, or offline for a later upload."""

from __future__ import annotations

import logging
import netrc
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flrc.records import jsonfile
from flrc.records.record import Record
from flrc.records.store import RunFolder, model_name
from flrc.tracking.base import Tracker

log = logging.getLogger(__name__)

MODES = ("online", "offline", "auto")
PUBLISHED = "published.json"
"""In a run's folder: per destination, digest and mode of what was sent, and the offline files."""
PUBLIC_SERVER = "https://api.wandb.ai"


@dataclass
class Wandb(Tracker):
    """Publishes a record as a W&B run with the run's id, grouped by study.

    Config is the run's configuration, the summary holds all measurements, rates, parameter counts
    and seconds, and a table the ranks and errors of all layers. Only finished records (``status:
    ok``) are sent, so nothing is appended later: online the same id replaces its page, offline a
    record that is already there is skipped and a changed one replaces the files of the old one.

    Attributes:
        project: W&B project.
        entity: W&B user or team; None for the key's default.
        mode: ``online``, ``offline`` (files below ``<runs>/wandb``, for ``wandb sync``), or
            ``auto``: online where W&B has a key, offline where not.
    """

    name: str = "wandb"
    project: str = "flrc"
    entity: str | None = None
    mode: str = "auto"

    def check(self) -> None:
        """Check the mode and the project's name."""
        self.require(self.mode in MODES, "mode", ", ".join(MODES))
        self.require(bool(self.project), "project", "the name of a project")

    def publish(self, record: Record, folder: Path) -> None:
        """Send a finished record; log a warning and go on if W&B cannot take it."""
        if record.run.get("status") != "ok":
            log.info("run %s has not finished and is not published", record.run.get("id"))
            return
        try:
            self._publish(record, folder)
        except Exception as error:  # whatever W&B raises, the run is done and its record is safe
            log.warning(
                "W&B did not take run %s (%s: %s); its record is kept in %s. "
                "Send it later with: python -m flrc.tracking publish %s",
                record.run.get("id"),
                type(error).__name__,
                error,
                folder,
                folder,
            )

    def _publish(self, record: Record, folder: Path) -> None:
        mode = _resolved(self.mode)
        files = RunFolder(folder)
        sent: dict[str, Any] = files.read_json(PUBLISHED) or {}
        destination = f"wandb/{mode}/{self.entity or ''}/{self.project}"
        content = jsonfile.digest(record.to_json(), 64)
        before = sent.get(destination, {})
        runs = folder.resolve().parent.parent
        kept = runs / before["files"] if before.get("files") else None
        if mode == "offline" and before.get("content") == content and kept and kept.is_dir():
            log.info("run %s is already in %s", record.run["id"], kept)
            return
        written = self._send(record, folder, mode, runs)
        if mode == "offline" and kept is not None and kept != written:
            _remove_superseded(kept, str(record.run["id"]))
        place = str(written.relative_to(runs)) if written is not None else None
        sent[destination] = {"content": content, "mode": mode, "files": place}
        files.write_json(PUBLISHED, sent)

    def _send(self, record: Record, folder: Path, mode: str, runs: Path) -> Path | None:
        """One W&B run, from init to finish.

        Returns:
            The folder of its offline files; None online.
        """
        import wandb

        with wandb.init(
            project=self.project,
            entity=self.entity,
            id=str(record.run["id"]),
            name=f"{model_name(record)}/{folder.resolve().name}",
            group=record.run.get("study"),
            job_type=str(record.run["method"]),
            tags=_tags(record),
            config=_config(record),
            dir=str(runs),
            mode="offline" if mode == "offline" else "online",
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",  # output and load of the process that publishes are not the run's
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
            ),
        ) as page:
            layers = record.results.get("layers", [])
            if layers:
                columns = list(dict.fromkeys(key for layer in layers for key in layer))
                rows: list[Iterable[Any]] = [
                    [_cell(layer.get(key)) for key in columns] for layer in layers
                ]
                page.log({"layers": wandb.Table(columns=columns, data=rows)})
            page.summary.update(summary(record))
            written = Path(page.dir).resolve().parent
        if mode == "online":
            return None
        return written


def summary(record: Record) -> dict[str, Any]:
    """The scalars of a record: ``<dataset>/<metric>``, ``rate/...``, ``seconds/<stage>`` ..."""
    scalars: dict[str, Any] = {}
    for m in record.measurements:
        scalars[m.name] = m.value
        if m.stderr is not None:
            scalars[f"{m.name}_stderr"] = m.stderr
    for part in ("rate", "parameters", "bytes"):
        for key, value in record.results.get(part, {}).items():
            scalars[f"{part}/{key}"] = value
    if record.results.get("flops_per_token") is not None:
        scalars["flops_per_token"] = record.results["flops_per_token"]
    for stage in record.meta.get("stages", []):
        scalars[f"seconds/{stage['name']}"] = stage.get("seconds")
        scalars[f"peak_bytes/{stage['name']}"] = stage.get("peak_bytes")
    return {name: value for name, value in scalars.items() if isinstance(value, int | float)}


def _config(record: Record) -> dict[str, Any]:
    """Plain values only: W&B takes no configuration objects."""
    meta = {key: value for key, value in record.meta.items() if key != "stages"}
    return {
        **record.run.get("config", {}),
        "components": record.run.get("components"),
        "meta": meta,
    }


def _tags(record: Record) -> list[str]:
    """``slot:component``; W&B takes tags of 1 to 64 characters."""
    components = record.run.get("components", {})
    return [f"{slot}:{name}"[:64] for slot, name in components.items() if isinstance(name, str)]


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _resolved(mode: str) -> str:
    """``auto`` as online or offline.

    W&B's own places are asked for a key: the environment, and the netrc file that ``wandb login``
    writes.
    """
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE") == "offline":
        return "offline"
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "online"
    server = urlsplit(os.environ.get("WANDB_BASE_URL") or PUBLIC_SERVER).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC")).authenticators(server)
    except (OSError, netrc.NetrcParseError):
        known = None
    return "online" if known else "offline"


def _remove_superseded(folder: Path, run_id: str) -> None:
    """Remove the offline files of a run that was published again with another content."""
    if folder.name.startswith("offline-run-") and folder.name.endswith(f"-{run_id}"):
        log.info("%s held an older state of run %s and is removed", folder, run_id)
        shutil.rmtree(folder, ignore_errors=True)
