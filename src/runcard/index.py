"""What has changed in a store of run folders, so that a listing reads what is new and nothing else. Disposable.

The folders are the truth. `Index` keeps lean rows of ended runs in ``.index/`` below the store's root, and finds at
each use which of them still hold:

- The root's listing tells which runs there are: what is gone goes, what is unknown is read.
- Runs that go on are read each time, and never kept.
- Whoever changes a run that had ended says so: `noted` writes a line to a log before the change and one after it, and
  a run's owner writes one (`note`) after its last word. A run with a line since the last time is read again.
- A crashed run, one with a change begun and never ended, and one of the last seconds without a note is believed only
  while number, sizes and times of its journals are what they were. So are a hundred of all other rows each time, by
  chance: what a foreign tool alters inside a folder is found late, not never.

The log is read before the listing and the listing before the journals, so what changes meanwhile is found the next
time. Files are written whole under new names, and a manifest that names them is renamed into place: readers need no
lock, several may write at once, and the last one stands. Whatever is damaged, missing or not understood is read anew
from the runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import orjson

from runcard._changelog import FOLDER, Changes, changes_since, make_folder, note, noted
from runcard._columns import DamagedError, Read, Table, encode
from runcard._shared import share
from runcard.errors import StoreError
from runcard.identity import is_run_id
from runcard.record import RunRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Index", "Rows", "note", "noted"]

_KEEP_FROM = 64  # so many new rows are worth a new file
_CHUNK = 2_500  # rows a file when a whole store is read, so that memory stays small
_SETTLED_S = 10.0  # a run that ended and lay still for so long has had its last word, or will tell of it by a note
_SPOT_CHECKS = 100
_ORPHAN_S = 3600.0


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
        self.read = read
        self._folder = root / FOLDER

    def records(self) -> list[RunRecord]:
        """All records in no order; most of them lean, so that what is not in a row is read when it is asked for.

        Raises:
            OSError: When the root cannot be listed; a root that does not exist is an empty store.
        """
        rows = self.rows()
        return [record for table, kept in rows.tables for record in table.records(kept)] + rows.records

    def table(self, source: Path | bytes) -> Table:
        """The table in a file, or in what one would hold. Raises `DamagedError`, or `OSError`."""
        return Table(source, self.read, str(self.root))

    def forget(self) -> None:
        """Throw away what is kept; the next call reads every run."""
        with contextlib.suppress(OSError):
            (self._folder / _MANIFEST).unlink()

    def rows(self) -> Rows:
        """All rows, by table.

        Raises:
            OSError: When the root cannot be listed.
        """
        try:
            return self._rows()
        except DamagedError:
            self.forget()
            return self._rows()

    def _rows(self) -> Rows:
        self.unreadable = 0
        if not self._folder.is_dir():
            if len(self._names()) < _KEEP_FROM:
                return self._small()
            make_folder(self.root)
        kept = _load(self._folder, self.table)
        changes = changes_since(self._folder, kept.logs, kept.begun)
        if changes is None:  # a log is not the one it was
            kept = _Kept()
            changes = changes_since(self._folder, kept.logs, kept.begun) or Changes()
        names = self._names()
        known = kept.known()
        unknown = names - known
        here = known if len(names) - len(unknown) == len(known) else known & names
        believed = _live(kept.tables, here - changes.touched if changes.touched else here)
        moved = self._moved(kept, believed, len(here))
        again = (here & changes.touched) | moved
        batch = _Batch(self, changes)
        for run_id in sorted(again.union(filter(is_run_id, unknown))):
            batch.read(run_id)
        # A log that is new is remembered at once, so that its loss is seen before anything in it was kept.
        if batch.is_worth_keeping() or changes.logs.keys() != kept.logs.keys():
            return self._advance(kept, batch, names, again)
        if len(here) < len(known):
            kept.gone |= known - names
            self._save(kept)
        live = _live(kept.tables, here - again) if moved else believed
        return Rows(live, [*batch.records.values(), *batch.passing])

    def _small(self) -> Rows:
        """A store too small to keep anything for."""
        batch = _Batch(self, Changes())
        for run_id in sorted(filter(is_run_id, self._names())):
            batch.read(run_id)
        return Rows([], [*batch.records.values(), *batch.passing])

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self.root))
        except FileNotFoundError:
            return set()

    def _moved(self, kept: _Kept, believed: list[tuple[Table, list[int]]], total: int) -> set[str]:
        """The runs whose journals are not what they were, of the rows that are checked this time."""
        moved: set[str] = set()
        settled = set(kept.settled)
        spot = int.from_bytes(os.urandom(4)) % max(1, total)  # the place, in all rows, where a hundred are checked
        for (table, rows), file in zip(believed, kept.files, strict=True):
            recent = set() if file in kept.settled else set(table.column("recent"))
            unsure = recent.union(table.column("doubtful"))
            checked = [row for row in rows if row in unsure] if unsure else []
            first = min(spot, max(0, len(rows) - _SPOT_CHECKS))
            checked += rows[first : first + _SPOT_CHECKS] if 0 <= spot < len(rows) else []
            spot -= len(rows)
            if not checked:
                continue
            signatures = table.column("signature")
            for row in checked:
                if signature(self.root / table.run_ids[row]) != signatures[row]:
                    moved.add(table.run_ids[row])
            if recent and all(is_still(signatures[row]) for row in recent):
                settled.add(file)
        if settled != set(kept.settled) and not moved:
            kept.settled = sorted(settled)
            self._save(kept)
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
        changes = batch.changes
        settled = [file for file in kept.settled if file in files]
        current = _Kept(tables + batch.tables, files + batch.files, gone, changes.logs, changes.begun, settled)
        current.gone &= set().union(*(table.run_ids for table in current.tables))
        self._save(current)
        return Rows(_live(current.tables, current.known() & names), batch.passing)

    def _save(self, kept: _Kept) -> None:
        if any(not name for name in kept.files):
            return  # a file that could not be written: the rows are good for this time only
        body = orjson.dumps([kept.files, sorted(kept.gone), kept.logs, kept.begun, kept.settled])
        partial = _write(self.root, b"%08x\n%b" % (crc32(body), body))
        if partial:
            with contextlib.suppress(OSError):
                os.replace(self._folder / partial, self._folder / _MANIFEST)
                _sweep(self._folder, {*kept.files, _MANIFEST})


class _Batch:
    """The runs that are read this time, and what becomes of each."""

    def __init__(self, index: Index, changes: Changes) -> None:
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
            record = self.index.read(run_id)
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
        self.records[run_id] = table.records([row])[0]
        self.signatures[run_id] = table.column("signature")[row]
        if len(self.records) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        if not self.records:
            return
        ids = sorted(self.records)
        records = [self.records[run_id] for run_id in ids]
        signatures = [self.signatures[run_id] for run_id in ids]
        begun, ended = self.changes.begun, self.changes.ended
        doubtful = [row for row, each in enumerate(records) if each.status is Status.CRASHED or each.run_id in begun]
        recent = [row for row, each in enumerate(records) if each.run_id not in ended and not is_still(signatures[row])]
        try:
            data = encode(records, {"signature": signatures, "doubtful": doubtful, "recent": recent})
        except TypeError:  # no JSON: a record that was not read from a journal
            self.passing += records
        else:
            self.tables.append(self.index.table(data))
            self.files.append(_write(self.index.root, data))
            self.kept.update(ids)
        self.records, self.signatures = {}, {}


@dataclass
class _Kept:
    """What the manifest names: tables, later ones before earlier ones, and up to where the logs were read."""

    tables: list[Table] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)  # runs whose rows hold no more
    logs: dict[str, list[Any]] = field(default_factory=dict)  # name → how it begins, how much of it was read
    begun: dict[str, int] = field(default_factory=dict)  # run → changes begun and not ended
    settled: list[str] = field(default_factory=list)  # files whose recent rows have proved to be at rest

    def known(self) -> set[str]:
        known = set().union(*(table.run_ids for table in self.tables))
        return known - self.gone if self.gone else known


def signature(folder: Path) -> str:
    """What tells whether a run was written to: number, sizes and latest time of its journals; empty when unknown."""
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


def is_still(seen: str) -> bool:
    """Whether the run with this signature was not written to of late, by this machine's clock."""
    return time.time() - int(seen.rpartition(":")[2]) / 1e9 > _SETTLED_S


def _live(tables: list[Table], wanted: set[str]) -> list[tuple[Table, list[int]]]:
    """The rows of the runs wanted, each in the latest table that has it."""
    if sum(table.size for table in tables) == len(wanted):  # all of them, and each once
        return [(table, list(range(table.size))) for table in tables]
    found, wanted = [], set(wanted)
    for table in reversed(tables):
        found.append((table, [row for row, run_id in enumerate(table.run_ids) if run_id in wanted]))
        wanted.difference_update(table.run_ids)
    return found[::-1]


def _load(folder: Path, table: Callable[[Path], Table]) -> _Kept:
    """What is kept; nothing, when any of it is damaged or gone."""
    for _ in range(3):  # a reader that merges files may take them away between manifest and file
        try:
            data = (folder / _MANIFEST).read_bytes()
            if int(data[:8], 16) != crc32(data[9:]):
                return _Kept()
            files, gone, logs, begun, settled = orjson.loads(data[9:])
            tables = [table(folder / name) for name in files if _FILE.fullmatch(name)]
            return _Kept(tables, files, set(gone), logs, begun, settled)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            break
    return _Kept()


def _write(root: Path, data: bytes) -> str:
    """A new file in the folder: its name, or nothing when it could not be written."""
    name = f"{_ROWS}{os.urandom(8).hex()}"
    path = root / FOLDER / name
    try:
        with path.open("xb") as file:
            share(root, path, 0o600)
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
_FILE = re.compile(r"rows-[0-9a-f]{16}")
