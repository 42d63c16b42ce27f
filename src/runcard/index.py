"""What has changed in a store of run folders, so that a listing reads what is new and nothing else. Disposable.

The folders are the truth. `Index` keeps lean rows of ended runs in ``.index/`` below the store's root, and finds at each
use which of them still hold:

- The root's listing tells which runs there are: what is gone goes, what is unknown is read.
- Runs that go on are read each time, and never kept.
- Whoever changes a run that had ended says so: `noted` writes a line to a log before the change and one after it, and a
  run's owner writes one (`note`) after its last word. A run with a line since the last time is read again. Each host
  and boot appends to a log of its own, since on NFS the appends of two hosts to one file overwrite each other.
- A row that nobody vouches for (a crashed run, a folder copied in, a change begun and never ended, a run of the last hour
  without a note) is believed only while names, sizes and times of the run's journals are what they were. So are a
  hundred of all other rows each time, by chance: what a foreign tool alters inside a folder is found late, not never.

The log is read before the listing and the listing before the journals, so what changes meanwhile is found the next time.
Files are written whole under new names, and a manifest that names them is renamed into place: readers need no lock, several
may write at once, and the last one stands. Whatever is damaged, missing or not understood is read anew from the runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import orjson

from runcard._columns import ListedRecord, Read, Table, encode, listed
from runcard.errors import StoreError
from runcard.identity import is_run_id, this_process
from runcard.record import RunRecord, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ".index"

_KEEP_FROM = 64  # so many new rows are worth a new file
_CHUNK = 5_000  # rows a file when a whole store is read, so that memory stays small
_SETTLED_S = 3600.0  # a run that ended without a note and lay still for so long is believed like one with a note
_SPOT_CHECKS = 100
_ORPHAN_S = 3600.0


def note(root: Path, run_id: str) -> bool:
    """Say that a run has had its last word, or was put here or removed as a whole: one small append.

    Returns:
        Whether it was written; when it was not, nothing is raised, and the change is found in the other ways.
    """
    return _append(root, run_id, "e")


@contextlib.contextmanager
def noted(root: Path, run_id: str) -> Iterator[None]:
    """Put around any change of a run that had ended: a line before and a line after, so that a death between is seen."""
    _append(root, run_id, "b")
    try:
        yield
    finally:
        _append(root, run_id, "d")


class Rows(NamedTuple):
    """What a store holds: tables, each with the rows that count, and records that are in no table."""

    tables: list[tuple[Table, list[int]]]
    records: list[RunRecord]


class Index:
    """The rows of a store, as of each call.

    Attributes:
        root: The store's folder.
        unreadable: How many runs could not be read for want of permission, at the last call.
    """

    def __init__(self, root: Path, read: Read) -> None:
        """Take the store's root and what reads one run by its id; nothing is read yet."""
        self.root = root
        self.unreadable = 0
        self._read = read
        self._folder = root / FOLDER

    def records(self) -> list[RunRecord]:
        """All records in no order; most of them lean, so that what is not in a row is read when it is asked for.

        Raises:
            OSError: When the root cannot be listed; a root that does not exist is an empty store.
        """
        rows = self.rows()
        return [self.listed(table, row) for table, kept in rows.tables for row in kept] + rows.records

    def listed(self, table: Table, row: int) -> ListedRecord:
        """The lean record of one row."""
        return listed(table, row, self._read, str(self.root))

    def forget(self) -> None:
        """Throw away what is kept; the next call reads every run."""
        with contextlib.suppress(OSError):
            (self._folder / _MANIFEST).unlink()

    def rows(self) -> Rows:
        """All rows, by table.

        Raises:
            OSError: When the root cannot be listed.
        """
        self.unreadable = 0
        if not self._folder.is_dir():
            if len(self._names()) < _KEEP_FROM:
                return self._small()
            _make(self.root)
        kept = _load(self._folder)
        changes = _changes(self._folder, kept)
        if changes is None:  # a log is not the one it was
            kept = _Kept()
            changes = _changes(self._folder, kept) or _Changes()
        names = self._names()
        known = kept.known()
        here = known & names
        believed = _live(kept.tables, here - changes.touched)
        moved = self._moved(believed, len(here))
        again = (here & changes.touched) | moved
        batch = _Batch(self, changes)
        for run_id in sorted(again.union(filter(is_run_id, names - known))):
            batch.read(run_id)
        if batch.is_worth_keeping():
            return self._advance(kept, batch, names, again)
        if known - names:
            kept.gone |= known - names
            self._save(kept)
        live = _live(kept.tables, here - again) if moved else believed
        return Rows(live, [*batch.records.values(), *batch.passing])

    def _small(self) -> Rows:
        """A store too small to keep anything for."""
        batch = _Batch(self, _Changes())
        for run_id in sorted(filter(is_run_id, self._names())):
            batch.read(run_id)
        return Rows([], [*batch.records.values(), *batch.passing])

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.root))
        except FileNotFoundError:
            return set()

    def _moved(self, believed: list[tuple[Table, list[int]]], total: int) -> set[str]:
        """The runs whose journals are not what they were, of the rows that are checked this time."""
        moved = set()
        for table, rows in believed:
            unsure = set(table.column("unsure", ()))
            checked = [row for row in rows if row in unsure] if unsure else []
            if rows:
                first = int.from_bytes(os.urandom(4)) % len(rows)
                checked += rows[first : first + 1 + _SPOT_CHECKS * len(rows) // total]
            signatures = table.column("signature") if checked else ()
            for row in checked:
                run_id = table.run_ids[row]
                if signature(self.root / run_id) != signatures[row]:
                    moved.add(run_id)
        return moved

    def _advance(self, kept: _Kept, batch: _Batch, names: set[str], again: set[str]) -> Rows:
        """Keep the new rows, in a file with the rows of files that are not much larger, and remember up to where."""
        gone = kept.gone | (kept.known() - names) | again
        tables, files = list(kept.tables), list(kept.files)
        live = dict(enumerate(rows for _, rows in _live(tables, kept.known() - gone)))
        wasteful = sum(table.size for table in tables) > 2 * sum(map(len, live.values())) + 1_000
        while tables and (wasteful or tables[-1].size <= 2 * len(batch.records)):
            table, _ = tables.pop(), files.pop()
            for row in live[len(tables)]:
                batch.carry(table, row)
        batch.flush()
        gone -= batch.kept
        current = _Kept(tables + batch.tables, files + batch.files, gone, batch.changes.logs, batch.changes.begun)
        current.gone &= set().union(*(table.run_ids for table in current.tables))
        self._save(current)
        return Rows(_live(current.tables, current.known() & names), batch.passing)

    def _save(self, kept: _Kept) -> None:
        if any(not name for name in kept.files):
            return  # a file that could not be written: the rows are good for this time only
        body = orjson.dumps([kept.files, sorted(kept.gone), kept.logs, kept.begun])
        partial = _write(self.root, b"%08x\n%b" % (crc32(body), body))
        if partial:
            with contextlib.suppress(OSError):
                os.replace(self._folder / partial, self._folder / _MANIFEST)
                _sweep(self._folder, {*kept.files, _MANIFEST})


class _Batch:
    """The runs that are read this time, and what becomes of each."""

    def __init__(self, index: Index, changes: _Changes) -> None:
        self.index = index
        self.changes = changes
        self.records: dict[str, RunRecord] = {}  # to be kept
        self.signatures: dict[str, str] = {}
        self.passing: list[RunRecord] = []  # that go on, or cannot be kept
        self.tables: list[Table] = []
        self.files: list[str] = []
        self.kept: set[str] = set()

    def is_worth_keeping(self) -> bool:
        return bool(self.tables) or len(self.records) >= _KEEP_FROM

    def read(self, run_id: str) -> None:
        seen = signature(self.index.root / run_id)  # before the run is read: what comes later makes it another
        try:
            record = self.index._read(run_id)
        except LookupError:
            return  # removed meanwhile, or no run at all
        except (OSError, StoreError) as error:
            cause = error.__cause__ if isinstance(error, StoreError) else error
            self.index.unreadable += not isinstance(cause, (FileNotFoundError, NotADirectoryError))
            return
        if record.status is Status.RUNNING or not seen:
            self.passing.append(record)
            return
        self.records[run_id], self.signatures[run_id] = record, seen
        if len(self.records) >= _CHUNK:
            self.flush()

    def carry(self, table: Table, row: int) -> None:
        """Take over a row that is kept already."""
        run_id = table.run_ids[row]
        self.records[run_id] = self.index.listed(table, row)
        self.signatures[run_id] = table.column("signature")[row]
        if len(self.records) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        if not self.records:
            return
        ids = sorted(self.records)
        records = [self.records[run_id] for run_id in ids]
        unsure = [row for row, record in enumerate(records) if not self._is_sure(record)]
        try:
            data = encode(records, {"signature": [self.signatures[run_id] for run_id in ids], "unsure": unsure})
        except TypeError:  # no JSON: a record that was not read from a journal
            self.passing += records
        else:
            self.tables.append(Table(data))
            self.files.append(_write(self.index.root, data))
            self.kept.update(ids)
        self.records, self.signatures = {}, {}

    def _is_sure(self, record: RunRecord) -> bool:
        if record.status is Status.CRASHED or record.run_id in self.changes.begun:
            return False
        still = time.time() - int(self.signatures[record.run_id].rpartition(":")[2]) / 1e9
        return record.run_id in self.changes.ended or still > _SETTLED_S


@dataclass
class _Kept:
    """What the manifest names: tables, later ones before earlier ones, and up to where the logs were read."""

    tables: list[Table] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)  # runs whose rows hold no more
    logs: dict[str, list[Any]] = field(default_factory=dict)  # name → how it begins, how much of it was read
    begun: dict[str, int] = field(default_factory=dict)  # run → changes begun and not ended

    def known(self) -> set[str]:
        return set().union(*(table.run_ids for table in self.tables)) - self.gone


@dataclass
class _Changes:
    """What the logs say since the last time."""

    logs: dict[str, list[Any]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    begun: dict[str, int] = field(default_factory=dict)


def signature(folder: Path) -> str:
    """What tells whether a run's journals were written since: their number, sizes and latest time; empty when unknown."""
    count = size = latest = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("journal") and entry.name.endswith(".jsonl"):
                    stat = entry.stat(follow_symlinks=False)
                    count, size, latest = count + 1, size + stat.st_size, max(latest, stat.st_mtime_ns)
    except OSError:
        return ""
    return f"{count}:{size}:{latest}"


def _live(tables: list[Table], wanted: set[str]) -> list[tuple[Table, list[int]]]:
    """The rows of the runs wanted, each in the latest table that has it."""
    found = []
    for table in reversed(tables):
        found.append((table, [row for row, run_id in enumerate(table.run_ids) if run_id in wanted]))
        if len(tables) > 1:
            wanted = wanted.difference(table.run_ids)
    return found[::-1]


def _load(folder: Path) -> _Kept:
    """What is kept; nothing, when any of it is damaged or gone."""
    for _ in range(3):  # a reader that merges files may take them away between manifest and file
        try:
            data = (folder / _MANIFEST).read_bytes()
            if int(data[:8], 16) != crc32(data[9:]):
                return _Kept()
            files, gone, logs, begun = orjson.loads(data[9:])
            tables = [Table((folder / name).read_bytes()) for name in files if _FILE.fullmatch(name)]
            return _Kept(tables, files, set(gone), logs, begun)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            return _Kept()
    return _Kept()


def _changes(folder: Path, kept: _Kept) -> _Changes | None:
    """The lines since the last time; None when a log is another one than it was."""
    changes = _Changes(begun=dict(kept.begun))
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_LOG)]
        if not kept.logs.keys() <= set(names):
            return None
        for name in names:
            head, offset = kept.logs.get(name, ["", 0])
            with (folder / name).open("rb") as file:
                start = file.read(_HEAD).decode("ascii", "replace")
                if not start.startswith(head) or file.seek(0, os.SEEK_END) < offset:
                    return None
                file.seek(offset)
                whole = file.read().rpartition(b"\n")[0]
            changes.logs[name] = [head if len(head) == _HEAD else start, offset + len(whole)]
            for line in whole.decode("ascii", "replace").split("\n"):
                _take(changes, line)
    except OSError:
        return None
    return changes


def _take(changes: _Changes, line: str) -> None:
    """One line of a log; of a torn one, every run that it may have spoken of."""
    changes.touched.update(_ID.findall(line))
    match = _LINE.fullmatch(line)
    if match is None:
        return
    run_id, kind = match.groups()
    if kind == "b":
        changes.begun[run_id] = changes.begun.get(run_id, 0) + 1
        return
    changes.ended.add(run_id)
    if kind == "d" and changes.begun.get(run_id, 0) > 1:
        changes.begun[run_id] -= 1
    elif kind == "d":
        changes.begun.pop(run_id, None)


def _append(root: Path, run_id: str, kind: str) -> bool:
    """One line in this host's log. Where nobody keeps anything yet there is nobody to tell."""
    path = root / FOLDER / _log_name()
    line = f"\n{run_id} {kind} {time.time_ns():x}\n".encode()  # the first newline ends what another may have torn
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags, 0o666)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if os.fstat(fd).st_size == 0:
            _share(root, path, 0o600)
        return os.write(fd, line) == len(line)
    except OSError:
        return False
    finally:
        os.close(fd)


@lru_cache(maxsize=1)
def _log_name() -> str:
    process = this_process()
    return f"{_LOG}{crc32(f'{process["host"]} {process["boot"]}'.encode()):08x}"


def _make(root: Path) -> None:
    """Make the folder, before the log is read: from then on, writers tell of their changes."""
    with contextlib.suppress(OSError):
        (root / FOLDER).mkdir(mode=0o700)
        _share(root, root / FOLDER, 0o700)


def _share(root: Path, path: Path, mode: int) -> None:
    """Give a path its mode: the owner's alone, or the group's too where the store is the group's."""
    shared = root.stat().st_mode & 0o2020
    path.chmod(mode | (mode >> 3 if shared else 0))


def _write(root: Path, data: bytes) -> str:
    """A new file in the folder: its name, or nothing when it could not be written."""
    name = f"{_ROWS}{os.urandom(8).hex()}"
    path = root / FOLDER / name
    try:
        with path.open("xb") as file:
            _share(root, path, 0o600)
            file.write(data)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        return ""
    return name


def _sweep(folder: Path, wanted: set[str]) -> None:
    """Take away files that no manifest has named for an hour."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in wanted and entry.name.startswith(_ROWS):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > _ORPHAN_S:
                        os.unlink(entry.path)


_MANIFEST = "manifest"
_ROWS = "rows-"
_LOG = "changes-"
_HEAD = 40  # bytes at a log's beginning that tell it from another of the same name
_FILE = re.compile(r"rows-[0-9a-f]{16}")
_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-hjkmnp-tv-z]{8}")
_LINE = re.compile(rf"({_ID.pattern}) ([bed]) [0-9a-f]+")
