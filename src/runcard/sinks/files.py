"""``file:``: a folder of run folders, the default. It is the journal's own home, and is read back from the journals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runcard import index, journal, leaderboard
from runcard._folding import points
from runcard._shared import open_to_group
from runcard.errors import RunNotFound, StoreError, contained
from runcard.events import OWNER
from runcard.identity import is_alive, is_run_id
from runcard.locks import locked
from runcard.record import History, RunRecord, Status, fold
from runcard.sinks import views
from runcard.sinks.registry import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runcard.events import Event
    from runcard.sinks.mirror import Mirror

_HELD = 1 << 18  # bytes of journal that may stay in memory for the history
_GITIGNORE = b"*\n"


def open_sink(url: str) -> FilesSource:
    """The store in the folder that a ``file:`` URL names."""
    return FilesSource(Path(path_of(url)))


def make_store(root: Path, mode: str = "private") -> None:
    """Make the store's root, hidden from git, when it is not there.

    Raises:
        OSError: When it cannot be made.
    """
    if not os.path.isdir(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if mode == "group":
            os.chmod(root, folder_mode(root, mode))  # past the umask
    ignoring = f"{root}{os.sep}.gitignore"
    if os.path.lexists(ignoring):
        return
    try:
        fd = os.open(ignoring, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode(root, mode))
    except FileExistsError:
        return  # another process was quicker
    with open(fd, "wb") as file:
        if _is_shared(root, mode):
            open_to_group(fd, 0o660)
        file.write(_GITIGNORE)


def folder_mode(root: Path, mode: str) -> int:
    """0700, or 0770 when the store is shared with the group by setting or by a setgid root."""
    return 0o770 if _is_shared(root, mode) else 0o700


def file_mode(root: Path, mode: str) -> int:
    """0600, or 0660 when the store is shared with the group."""
    return 0o660 if _is_shared(root, mode) else 0o600


def _is_shared(root: Path, mode: str) -> bool:
    if mode == "group":
        return True
    try:
        return bool(os.stat(root).st_mode & 0o2000)
    except OSError:
        return False


def make_run(root: Path, run_id: str, mode: str, *, exist_ok: bool = False) -> Path:
    """Make a run's folder. Raises `OSError`."""
    folder = root / run_id
    wanted = folder_mode(root, mode)
    try:
        os.mkdir(folder, wanted)
    except FileExistsError:
        if not exist_ok:
            raise
    else:
        if wanted != 0o700:
            os.chmod(folder, wanted | (0o2000 if root.stat().st_mode & 0o2000 else 0))  # past the umask
    return folder


def write_views(folder: Path, record: RunRecord, *, known: bool, row: bool = True) -> None:
    """Write the end's views and the leaderboard's row, each on its own.

    Args:
        folder: The run's folder.
        record: The record to show.
        known: Whether the leaderboard may have this run already, as after a late decision.
        row: Whether it has one at all: what only waits to be delivered belongs to another store's.
    """
    mode = 0o660 if os.stat(folder).st_mode & 0o020 else 0o600
    contained(f"write the views of {record.run_id}", views.write_end, folder, mode, record)
    if row:
        contained("write the leaderboard", _write_row, folder.parent, record, known=known)


def _write_row(root: Path, record: RunRecord, *, known: bool) -> None:
    """Add or replace a run's row; a row found torn is written again from its run."""
    if known:
        leaderboard.replace(root, record)
        return
    torn = leaderboard.add(root, record)
    if torn is not None and is_run_id(torn) and (root / torn).is_dir():
        leaderboard.replace(root, read_run(root / torn, torn))


def readings(folder: Path) -> dict[str, journal.Reading]:
    """The journals in a run's folder, by writer, unread."""
    return {writer: journal.Reading(path) for writer, path in journal.writers(folder).items()}


def just_written(folder: Path, own: journal.Journal, run_id: str, known: journal.Known | None) -> RunRecord:
    """The record of a run by who wrote it and still has its events; read, when others wrote too or they are many.

    Args:
        folder: The run's folder.
        own: The journal that its owner writes.
        run_id: Its id.
        known: What its start event ends with, and need not be parsed.

    Raises:
        OSError: When the folder cannot be read.
    """
    events = own.held(known) if journal.is_alone(own.path) else None
    if events is None:
        return read_run(folder, run_id, hold=True)
    held = {OWNER: events}
    record = fold(run_id, held)
    changes: dict[str, object] = {"metric_history": History(points(held)), "folder": str(folder)}
    if record.status is Status.RUNNING:
        changes["duration_s"] = None
    return _with(record, changes)


def read_run(folder: Path, run_id: str | None = None, *, hold: bool = False) -> RunRecord:
    """The record in a run's folder, `crashed` derived; never raises on what is damaged.

    Args:
        folder: The run's folder.
        run_id: Its id, when the folder has another name.
        hold: Keep the events of a short journal for the history, which is about to be read too.

    Raises:
        OSError: When the folder cannot be read at all.
    """
    run_id = run_id or folder.name
    found = journal.writers(folder)
    readings = {writer: journal.Reading(path) for writer, path in found.items()}
    held: Mapping[str, Iterable[Event]] | None = None
    if hold and sum(os.stat(path).st_size for path in found.values()) <= _HELD:
        held = {writer: list(reading) for writer, reading in readings.items()}
    record = fold(run_id, held or readings)
    losses = dict(record.losses)
    told = losses.get("unwritten", 0)  # the writer's own count of the gaps that a full disk left
    for kind in ("missing", "damaged"):
        count = sum(getattr(reading, kind) for reading in readings.values())
        known = min(count, told)
        told -= known
        if count > known:
            losses[kind] = losses.get(kind, 0) + count - known
    history = History(lambda: points(held or {writer: journal.Reading(path) for writer, path in found.items()}))
    changes: dict[str, object] = {"losses": losses, "metric_history": history, "folder": str(folder)}
    if record.status is Status.RUNNING and not _lives(record, found.values()):
        changes["status"] = Status.CRASHED
        if record.attempts:
            record.attempts[-1]["status"] = Status.CRASHED.value
    elif record.status is Status.RUNNING:
        changes["duration_s"] = None
    if record.started_at is None:
        from runcard.sinks._rescue import told_beside

        beside = told_beside(folder, record)
        if (beside or not found) and not losses.keys() & {"missing", "damaged"}:
            losses["missing"] = 1  # its start, at least: a run that was killed before it has nothing beside
        changes.update(beside)
    return _with(record, changes)


def _with(record: RunRecord, changes: dict[str, object]) -> RunRecord:
    """`dataclasses.replace` for a record nobody else has yet, at a tenth of its cost."""
    for name, value in changes.items():
        object.__setattr__(record, name, value)
    return record


def _lives(record: RunRecord, paths: object) -> bool:
    touched = 0.0
    for path in paths:  # type: ignore[attr-defined]  # a view of paths
        try:
            touched = max(touched, os.stat(path).st_mtime)
        except OSError:
            continue
    latest = [entry for entry in record.attempts if not entry.get("process_rank")] or record.attempts
    return bool(latest) and is_alive(latest[-1].alive, touched=touched or None)


class FilesSource:
    """Reads a folder of run folders, and appends late events to them.

    Attributes:
        root: The folder, absolute.
        index: What is known of the store's ended runs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = f"file:{root}"
        self.index = index.Index(root, self.record)

    def as_sink(self) -> Mirror:
        """What copies finished runs here, for runs whose own folder is elsewhere."""
        from runcard.sinks.mirror import Mirror

        return Mirror(self.root)

    @property
    def unreadable(self) -> int:
        """How many runs the last listing could not read for want of permission."""
        return self.index.unreadable

    def run_ids(self) -> Iterator[str]:
        """The ids of all run folders."""
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False):
                        yield entry.name
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {error}") from error

    def folder(self, run_id: str) -> Path:
        """The run's folder. Raises `RunNotFound` for anything that is no run's id."""
        folder = self.root / run_id
        if not is_run_id(run_id) or folder.is_symlink() or not folder.is_dir():
            raise RunNotFound(f"no run {run_id!r} in {self.root}")
        return folder

    def record(self, run_id: str) -> RunRecord:
        """One record. Raises `RunNotFound`, or `StoreError` when it cannot be read."""
        try:
            return read_run(self.folder(run_id), run_id)
        except OSError as error:
            raise StoreError(f"the run {run_id} cannot be read: {error}") from error

    def records(self) -> list[RunRecord]:
        """All records that one may read; the others are counted in `unreadable`."""
        try:
            records = self.index.records()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be read: {error}") from error
        return records

    def journals(self, run_id: str) -> dict[str, journal.Reading]:
        """The events of one run by writer."""
        return readings(self.folder(run_id))

    def append(self, run_id: str, event: Event) -> None:
        """Append a late event under the run's lock, and bring the views and the leaderboard up to date.

        A run that still goes on keeps its own journal to itself: its judges write beside it.
        """
        folder = self.folder(run_id)
        record = read_run(folder, run_id)
        name = "journal-late.jsonl" if record.status is Status.RUNNING else "journal.jsonl"
        with index.noted(self.root, run_id):
            self._append(folder, folder / name, record, event)

    @staticmethod
    def _append(folder: Path, path: Path, record: RunRecord, event: Event) -> None:
        with locked(path):
            appended = journal.Journal(path, shared=True)
            try:
                done = appended.append(event)
            finally:
                appended.close()
        if not done:
            raise StoreError(f"{path} could not be written; is the disk full?")
        if record.status is not Status.RUNNING:
            write_views(folder, read_run(folder, record.run_id), known=True)
