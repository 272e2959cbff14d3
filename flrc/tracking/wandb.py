"""Weights & Biases: a page per run and per study, online, or offline for a later upload."""

from __future__ import annotations

import logging
import netrc
import os
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from flrc.core.commands import as_called, from_here
from flrc.results.records.record import Record
from flrc.results.records.store import RunFolder
from flrc.tracking.base import Tracker
from flrc.tracking.page_ids import PAGE, PUBLISHED
from flrc.tracking.pages import Page
from flrc.tracking.run_page import run_page

if TYPE_CHECKING:
    from flrc.results.studies.study import Study

log = logging.getLogger(__name__)

MODES = ("online", "offline", "auto")
NO_ANSWER = "wandb/no-answer"
"""In the folder of runs: its timestamp shows when W&B last did not answer, so that not every job of
a sweep waits for it."""
PAUSE = 600
"""Seconds until W&B is asked again after that."""
LISTED = 8
"""URLs of pages that are listed; of more, the project's."""
OFFLINE = "offline-run-"
"""Names of the folders that W&B writes offline begin with it."""
ANSWER, UPLOAD = 30.0, 300.0
"""Seconds that W&B may take to answer, and to receive what was sent."""
PROJECT = "flrc"
PUBLIC_SERVER = "https://api.wandb.ai"


@dataclass
class Wandb(Tracker):
    """Publishes a record as a W&B run with the run's id, and a study as a W&B run of its own.

    Of runs with equal weights under several labels, which share an id, each has a W&B run: all but
    the first add the label to it.

    A run's config is its configuration, the summary holds all measurements, rates, parameter counts
    and seconds; tables hold the ranks and errors of all layers and the first generated replies. Its
    group is the study that computed it; tags name all studies that it belongs to. A study's W&B run
    holds the rendered tables, their numbers at full precision and the plots.

    Only finished records (``status: ok``) are sent, so nothing is appended later: online the same
    id replaces its page; offline an unchanged page is skipped, and the files of a changed one
    replace the old ones.

    Attributes:
        project: W&B project; any name.
        entity: W&B user or team; None for the API key's default.
        mode: ``online``, ``offline`` (files in ``<paths.runs>/wandb``, for ``wandb sync``) or
            ``auto``: online if W&B has an API key, otherwise offline.
    """

    name: str = "wandb"
    project: str = PROJECT
    entity: str | None = None
    mode: str = "auto"

    NEEDS: ClassVar[tuple[str, ...]] = ("wandb",)

    def check(self) -> None:
        """Check the mode and the project's name."""
        self.require(self.mode in MODES, "mode", ", ".join(MODES))
        self.require(bool(self.project), "project", "the name of a project")

    def publish(self, record: Record, folder: Path) -> bool:
        """Send a finished record; see :meth:`Tracker.publish`."""
        if record.run.get("status") != "ok":
            log.info("run %s has not finished and is not published", record.run.get("id"))
            return False
        return self._try(partial(run_page, record, folder), folder, [str(folder)])

    def publish_study(self, study: Study, scale: str, folder: Path) -> bool:
        """Send a study's page, and its runs if they changed: a new study is a new tag."""
        from flrc.tracking.study_page import study_page  # not above: plots take time to import

        runs = folder.resolve().parent.parent
        later = [str(runs), "--study", study.name, "--scale", scale]
        if not self._try(partial(study_page, study, scale, folder), folder, later):
            return False  # it would not answer for the runs either
        for job in study.jobs:
            own = RunFolder(runs / job.folder)
            record = own.read_record()
            if record is None or record.run["status"] != "ok":
                continue
            make = partial(run_page, record, own.path)
            if not self._try(make, own.path, later, only_changed=True):
                return False
        return True

    def places(self, folders: Sequence[Path]) -> list[str]:
        """URLs of pages; of what is offline the folder, and the command that uploads it."""
        urls: list[str] = []
        files: list[Path] = []
        for folder in map(Path.resolve, folders):
            sent = self._sent(folder)
            if sent.get("url"):
                urls.append(sent["url"])
            elif sent.get("files"):
                files.append(folder.parent.parent / sent["files"])
        return [*_pages(urls), *_uploads(files)]

    def _sent(self, folder: Path) -> dict[str, Any]:
        """What was sent from a folder; by another mode if ``auto`` was resolved elsewhere."""
        known: dict[str, Any] = RunFolder(folder).read_json(PUBLISHED) or {}
        here = _resolved(self.mode)
        modes = [here, *(m for m in MODES if self.mode == "auto" and m != here)]
        found = [known[place] for mode in modes if (place := self._place(mode)) in known]
        return found[0] if found else {}

    def _place(self, mode: str) -> str:
        """The key of this destination in ``PUBLISHED``."""
        return f"wandb/{mode}/{self.entity or ''}/{self.project}"

    def _try(
        self,
        make: Callable[[], Page],
        folder: Path,
        later: Sequence[str],
        *,
        only_changed: bool = False,
    ) -> bool:
        """Send a page; whatever W&B raises, the run is done and its record is safe.

        Args:
            make: Makes the page.
            folder: The folder of ``published.json``, two levels below the folder of runs.
            later: Arguments of the command that sends it later.
            only_changed: Whether to skip, online too, what was sent before and did not change.
        """
        mode = _resolved(self.mode)
        silent = folder.resolve().parent.parent / NO_ANSWER
        try:
            if mode == "online":
                _check_answered(silent)
            self._publish(make(), folder, only_changed, mode)
        except Exception as error:
            if mode == "online" and not isinstance(error, NoAnswer):
                silent.parent.mkdir(parents=True, exist_ok=True)
                silent.touch()
            log.warning(
                "%s was not sent to W&B (%s: %s); everything is kept on disk. Send it later with: "
                "%s %s",
                folder,
                type(error).__name__,
                error,
                as_called("publish"),
                shlex.join([*later, *self._destination()]),
            )
            return False
        silent.unlink(missing_ok=True)
        return True

    def _destination(self) -> list[str]:
        """The command-line options for the same destination."""
        project = ["--project", self.project] if self.project != PROJECT else []
        return [*project, *(["--entity", self.entity] if self.entity else [])]

    def _publish(self, page: Page, folder: Path, only_changed: bool, mode: str) -> None:
        files = RunFolder(folder)
        sent: dict[str, Any] = files.read_json(PUBLISHED) or {}
        destination = self._place(mode)
        content = page.digest()
        before = sent.get(destination, {})
        runs = folder.resolve().parent.parent
        kept = runs / before["files"] if before.get("files") else None
        same = before.get("content") == content
        if same and (kept.is_dir() if kept else mode == "online" and only_changed):
            log.debug("%s is already published", page.name)
            return
        url, written = self._send(page, mode, runs)
        if mode == "offline" and kept is not None and kept != written:
            _remove_superseded(kept, page.name)
        place = str(written.relative_to(runs)) if written is not None else None
        sent[destination] = {
            "content": content,
            "mode": mode,
            PAGE: page.id,
            "files": place,
            "url": url,
        }
        files.write_json(PUBLISHED, sent)

    def _send(self, page: Page, mode: str, runs: Path) -> tuple[str | None, Path | None]:
        """Send the page as one W&B run; returns its URL, or the folder of its offline files."""
        import wandb

        with wandb.init(
            project=self.project,
            entity=self.entity,
            id=page.id,
            name=page.name,
            group=page.group,
            job_type=page.job_type,
            tags=page.tags,
            notes=page.notes or None,
            config=page.config,
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
                init_timeout=ANSWER,
                finish_timeout=UPLOAD,
                finish_timeout_raises=True,
            ),
        ) as run:
            shown: dict[str, Any] = {
                key: wandb.Table(columns=table.titles, data=table.rows)
                for key, table in page.tables.items()
            }
            shown |= {key: wandb.Image(str(path)) for key, path in page.pictures.items()}
            if shown:
                run.log(shown)
            run.summary.update(page.summary)
            if mode == "online":
                return run.url, None
            return None, Path(run.dir).resolve().parent


class NoAnswer(Exception):
    """W&B did not answer recently."""


def _check_answered(silent: Path) -> None:
    """Raise NoAnswer if W&B did not answer less than ``PAUSE`` seconds ago."""
    if silent.is_file() and (ago := time.time() - silent.stat().st_mtime) < PAUSE:
        raise NoAnswer(f"it did not answer {ago:.0f} s ago, and is asked again after {PAUSE} s")


def ask_again(runs: Path) -> None:
    """Forget that W&B did not answer, because the user wants to try again."""
    (runs / NO_ANSWER).unlink(missing_ok=True)


def _resolved(mode: str) -> str:
    """``auto`` as online or offline.

    A key is looked for where W&B does: in the environment, and in the netrc file that
    ``wandb login`` writes.
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


def _pages(urls: Sequence[str]) -> list[str]:
    """The pages' URLs; of many the project's, behind the first ones."""
    if not urls:
        return []
    lines = [f"  {url}" for url in urls[:LISTED]]
    if (more := len(urls) - LISTED) > 0:
        lines.append(f"  and {more} more in {urls[0].rpartition('/runs/')[0]}")
    return ["W&B:", *lines]


def _uploads(files: Sequence[Path]) -> list[str]:
    """Where offline files are, and the command that uploads these and no others."""
    lines = []
    for folder in dict.fromkeys(file.parent for file in files):
        place, here = from_here(folder), [file for file in files if file.parent == folder]
        named = shlex.join(map(from_here, here))
        if len(here) > LISTED and set(folder.glob(f"{OFFLINE}*")) == set(here):
            named = f"{shlex.quote(place)}/{OFFLINE}*"
        lines += [f"W&B, offline in {place}; this uploads it:", f"  wandb sync {named}"]
    return lines


def _remove_superseded(folder: Path, name: str) -> None:
    """Remove the offline files of a page that was published again with other content or id."""
    if folder.name.startswith(OFFLINE):
        log.info("%s holds an older version of %s and is removed", folder, name)
        shutil.rmtree(folder, ignore_errors=True)
