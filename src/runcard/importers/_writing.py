"""An `Imported` run as a run's folder: the journal that the fold makes its record from, artifacts and all views.

The folder is made beside its place under a hidden name and renamed into it when it is whole. So what is there is
complete, and what a broken-off import left behind is made again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from runcard import index, settings
from runcard._selecting import select
from runcard._shared import open_to_group
from runcard.capture.packages import requirements
from runcard.errors import StoreError
from runcard.importers._events import NO_FILES, Writing
from runcard.journal import Journal, encode
from runcard.locks import locked
from runcard.record import Status
from runcard.redact import Redactor
from runcard.sinks import views
from runcard.sinks.files import FilesSource, file_mode, make_run, make_store, read_run, write_views
from runcard.store import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from runcard.importers import Imported, Wishes
    from runcard.record import RunRecord


class Target:
    """The store that runs are imported into. What is no folder is given them from a staging folder."""

    def __init__(self, into: str | os.PathLike[str], staging: Path, wishes: Wishes, *, dry_run: bool) -> None:
        """Open the store.

        Raises:
            SettingError: When the URL is not accepted; `StoreError` when it cannot be written.
        """
        source = open_store(into)._source  # noqa: SLF001 - the store's own reader is what a copy compares with
        select([], where=wishes.where)  # an expression that is none is said at once
        self._wishes = wishes
        self._dry_run = dry_run
        self._url = None if isinstance(source, FilesSource) else os.fspath(into)
        self._known = frozenset() if isinstance(source, FilesSource) else frozenset(source.run_ids())
        self._home = source.root if isinstance(source, FilesSource) else None
        self._copy_limit = wishes.copy_limit
        if self._url is not None and not getattr(source, "keeps_files", False):
            self._copy_limit = NO_FILES
        elif dry_run:
            self._copy_limit = 0
        self._root = staging / "runs" if dry_run or self._home is None else self._home
        current = settings.current()
        self._mode = current.mode
        self._redactor = Redactor(current.redact_keep)
        self._made = False

    def take(self, run: Imported) -> tuple[str, Counter[str]]:
        """Import a run.

        Returns:
            ``imported``, ``up to date`` (it had gone on), ``there``, or why it was passed over; and what was left out.

        Raises:
            OSError: When it cannot be read or written.
        """
        wishes = self._wishes
        if run.deleted and not wishes.deleted:
            return "deleted", Counter()
        if wishes.experiment is not None and run.experiment != wishes.experiment:
            return "of other experiments", Counter()
        run_id = run.origin.run_id
        if run_id in self._known:
            return "there", Counter()
        for root in (self._home, self._root):
            if root is not None and (root / run_id / "journal.jsonl").is_file():
                return self._gone_on(root / run_id, run), Counter()
        return self._new(run, run_id)

    def deliver(self) -> list[str]:
        """Bring what was staged to a store that is no folder; what went wrong, a line each."""
        if self._url is None or self._dry_run or not self._made:
            return []
        from runcard import _sync

        return _sync.copy(str(self._root), self._url).problems

    def _new(self, run: Imported, run_id: str) -> tuple[str, Counter[str]]:
        root = self._root
        if not self._made:
            try:
                make_store(root, self._mode)
            except OSError as error:
                raise StoreError(f"the store {root} cannot be written: {error}") from error
            self._made = True
        with locked(root / ".importing.lock"):
            if (root / run_id).exists():
                return "there", Counter()  # another import was faster
            partial = root / f".{run_id}.importing"
            broken_off = partial.exists()
            shutil.rmtree(partial, ignore_errors=True)
            make_run(root, partial.name, self._mode)
            has_row = False
            try:
                record, left_out = self._write(run, partial)
                if self._wishes.where is not None and not select([record], where=self._wishes.where):
                    return "not met by --where", Counter()
                if self._url is not None and record.status is Status.RUNNING:
                    return "still running", Counter()  # what is copied would never be brought up to date
                if record.status is not Status.RUNNING:
                    has_row = True
                    views.write_start(partial, file_mode(root, self._mode), config=None, shared=_surroundings(record))
                    write_views(partial, replace(record, folder=str(root / run_id)), known=broken_off)
                os.replace(partial, root / run_id)
            finally:
                if not has_row:  # else it stays, so that the next import knows of the leaderboard's row
                    shutil.rmtree(partial, ignore_errors=True)
        index.note(root, run_id)
        return "imported", left_out

    def _write(self, run: Imported, folder: Path) -> tuple[RunRecord, Counter[str]]:
        """The journal and the artifacts of a new run."""
        writing = Writing(run, self._redactor, self._wishes)
        path = folder / "journal.jsonl"
        mode = file_mode(self._root, self._mode)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            if mode & 0o070:
                open_to_group(file.fileno(), mode)
            events = enumerate(writing.events(folder, self._copy_limit))
            file.writelines(encode({"n": count, **event}) for count, event in events)
            file.flush()
            os.fsync(file.fileno())  # before the folder gets its name: what is there is believed
        writing.age(path)
        return read_run(folder, run.origin.run_id), writing.left_out

    def _gone_on(self, folder: Path, run: Imported) -> str:
        """A run that was imported before it had ended: add what is new."""
        record = read_run(folder)
        told = record.environment.get("imported")
        ended = record.ended_at is not None and not (isinstance(told, dict) and told.get("status") == "unknown")
        if ended or self._dry_run:
            return "there"
        writing = Writing(run, self._redactor, self._wishes)
        path = folder / "journal.jsonl"
        with index.noted(folder.parent, folder.name), locked(path):
            journal = Journal(path, shared=True)
            try:
                appended = [journal.append(event) for event in writing.news(record, folder, self._copy_limit)]
            finally:
                journal.close()
            writing.age(path)
            if not all(appended):
                raise StoreError(f"{path} could not be written; is the disk full?")
            after = read_run(folder)
            if appended and after.status is not Status.RUNNING:
                write_views(folder, after, known=True)
        return "up to date" if appended else "there"


def _surroundings(record: RunRecord) -> dict[str, bytes]:
    """The files that a run writes at its start, of what is known of it."""
    files = {
        "environment.json": orjson.dumps(record.environment, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    }
    packages = record.environment.get("packages")
    if isinstance(packages, dict) and packages:
        files["requirements.txt"] = requirements(packages).encode("utf-8", "replace")
    return files
