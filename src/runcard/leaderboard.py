"""``leaderboard.csv``: one row a run, for pandas and for people; rebuildable from the run folders.

The columns are ``run_id, started_at, experiment, name, parent_id, status, duration_s, decision, is_best``, then
``config.*`` by path and ``metrics.*`` by name. A run that brings new names grows the columns: the file is then
written anew beside the old one and renamed over it. Every change is made under ``.leaderboard.lock``. A text that a
spreadsheet would calculate gets a leading ``'``; line breaks and control characters are written as escapes, so that a
row is a line. Rows are ends of runs: one that still goes on has none.
"""

from __future__ import annotations

import csv
import os
import re
from typing import TYPE_CHECKING

from runcard._rows import FIXED_COLUMNS, cell, line_of, ordered, row_of
from runcard.locks import locked
from runcard.record import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TextIO

    from runcard.record import RunRecord

__all__ = ["FILE", "FIXED_COLUMNS", "add", "cell", "rebuild", "remove", "replace"]

FILE = "leaderboard.csv"
_LOCK = ".leaderboard.lock"
_WAIT_S = 5.0
_TRIES = 10
_HEADER_LIMIT = 16 << 20  # bytes; a longer first line is no header of ours
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What spreadsheets put before UTF-8. Taken away by hand: a codec for it is looked up when it is first needed, and a
signal handler that ends a run may come in the middle of just that."""


def add(root: Path, record: RunRecord) -> str | None:
    """Append the row of a run that has none yet; reads the header alone, however long the file is.

    Args:
        root: The store's folder.
        record: The run that has ended.

    Returns:
        The id of a run whose row was found torn, by a writer that was killed, and was taken out: add that run again.

    Raises:
        OSError: When the file cannot be written; a half-written row is taken back.
        ValueError: When the file there is no leaderboard.
    """
    row = row_of(record)
    path = os.path.join(root, FILE)
    with locked(os.path.join(root, _LOCK), _WAIT_S) as held:
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            _write(path, ordered(row), iter([row]))
            return None
        lost = None
        try:
            columns = _columns(fd)
            if columns:
                lost = _cut_torn(fd)
                if row.keys() <= columns.keys():
                    _append(fd, [row.get(name, "") for name in columns])
                    if held or _is_at(fd, path):
                        return lost  # without locks another may have put a new file in the place of this one
        finally:
            os.close(fd)
        if not columns:  # empty: the writer that made it was killed
            _write(path, ordered(row), iter([row]))
            return None
        _rewrite(path, [row])
        return lost


def replace(root: Path, record: RunRecord) -> None:
    """Write the row of a run that may have one: after a late decision, a new name, another attempt.

    Raises:
        OSError: When the file cannot be written; the old one stays as it was.
        ValueError: When the file there is no leaderboard.
    """
    row = row_of(record)
    with locked(os.path.join(root, _LOCK), _WAIT_S):
        _rewrite(os.path.join(root, FILE), [row])


def remove(root: Path, run_ids: Collection[str]) -> None:
    """Take out the rows of runs.

    Raises:
        OSError: When the file cannot be written; the old one stays as it was.
    """
    path = os.path.join(root, FILE)
    gone = frozenset(run_ids)
    if gone and os.path.exists(path):
        with locked(os.path.join(root, _LOCK), _WAIT_S):
            _rewrite(path, [], keep=lambda run_id: run_id not in gone)


def rebuild(root: Path, records: Iterable[RunRecord]) -> Path:
    """Write the whole file anew from the records, in their order; runs that still go on have no row.

    The rows of runs that ended since the records were read stay.

    Raises:
        OSError: When the file cannot be written; the old one stays as it was.
    """
    path = root / FILE
    rows = {record.run_id: row_of(record) for record in records if record.status is not Status.RUNNING}
    known = set(rows)
    with locked(os.path.join(root, _LOCK), _WAIT_S):
        try:
            with path.open(encoding="utf-8", errors="backslashreplace", newline="") as file:
                ended = {run_id: row for run_id, row in _rows(file) if run_id not in known}
            rows.update({run_id: row for run_id, row in ended.items() if (root / run_id / "record.json").exists()})
        except (OSError, ValueError):
            pass  # there was none, or it was damaged, which is why it is rebuilt
        columns = dict.fromkeys(FIXED_COLUMNS) | {name: None for row in rows.values() for name in row}
        _write(os.fspath(path), ordered(columns), iter(rows.values()))
    return path


_parsed: dict[bytes, dict[str, None]] = {}  # the header seen last: a process adds many rows under the same one


def _columns(fd: int) -> dict[str, None]:
    """The columns by the header; empty when there is none yet. Raises `ValueError` when it is no header of ours."""
    head = os.pread(fd, 1 << 13, 0) if hasattr(os, "pread") else _first(fd, 1 << 13)
    while b"\n" not in head:
        more = _first(fd, len(head) * 8) if head else b""
        if len(more) <= len(head):
            return {}  # no whole line
        if len(more) > _HEADER_LIMIT:
            raise ValueError(_NOT_OURS)
        head = more
    head = head[: head.index(b"\n")]
    known = _parsed.get(head)
    if known is None:
        line = head.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "backslashreplace").rstrip("\r")
        known = dict.fromkeys(next(csv.reader([line])))
        if "run_id" not in known:
            raise ValueError(_NOT_OURS)
        _parsed.clear()
        _parsed[head] = known
    return known


_NOT_OURS = "leaderboard.csv has no column run_id; move it away, then run `runcard leaderboard --rebuild`"


def _first(fd: int, size: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, size)


def _cut_torn(fd: int) -> str | None:
    """Cut a last line that lacks its newline; the id of the run that it was to be of."""
    size = os.fstat(fd).st_size
    if _at(fd, size - 1, 1) == b"\n":
        return None
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        tail = _at(fd, start, step) + tail
    kept = start + tail.rindex(b"\n") + 1
    os.ftruncate(fd, kept)
    found = re.match(rb"(\d{8}T\d{6}-[0-9a-z]{8})[,\n]?", tail[kept - start :])
    return found[1].decode("ascii") if found else None


def _at(fd: int, offset: int, size: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def _append(fd: int, cells: Iterable[str]) -> None:
    line = line_of(cells)
    before = os.fstat(fd).st_size
    written = os.write(fd, line)
    if written != len(line):
        os.ftruncate(fd, before)
        raise OSError(f"{FILE} took {written} of {len(line)} bytes; is the disk full?")


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def _rewrite(path: str, new: Sequence[dict[str, str]], keep: Callable[[str], bool] = lambda _: True) -> None:
    """Write the file anew with some rows put in the place of those of the same runs, or at the end.

    Where there are no locks another may have changed the file while we wrote: then begin again, a few times.
    """
    for _ in range(_TRIES):
        if _rewritten(path, new, keep):
            return
    raise OSError(f"{FILE} is being changed by many at once; `runcard leaderboard --rebuild` puts it right")


def _rewritten(path: str, new: Sequence[dict[str, str]], keep: Callable[[str], bool]) -> bool:
    changed = {row["run_id"]: row for row in new}
    before = _mark(path)
    try:
        with open(path, encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = {run_id: row for run_id, row in _rows(file) if keep(run_id)}
            columns: Iterable[str] = dict.fromkeys([*_header(path), *(name for row in new for name in row)])
    except FileNotFoundError:
        rows, columns = {}, dict.fromkeys([*FIXED_COLUMNS, *(name for row in new for name in row)])
    rows.update(changed)
    return _write(path, ordered(columns), iter(rows.values()), unless_changed=before)


def _mark(path: str) -> tuple[int, int] | None:
    """What tells a file from itself after another has appended to it or replaced it."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size


def _header(path: str) -> Iterable[str]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return _columns(fd) or FIXED_COLUMNS
    finally:
        os.close(fd)


def _rows(file: TextIO) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows by run, each a column → cell; torn and empty ones are left out."""
    if file.read(1) != _BYTE_ORDER_MARK.decode():
        file.seek(0)
    lines = (line for line in file if line.endswith("\n"))
    reader = csv.reader(lines)
    header = next(reader, [])
    if not header:
        return
    if "run_id" not in header:
        raise ValueError(_NOT_OURS)
    at = header.index("run_id")
    for cells in reader:
        if len(cells) > at and cells[at]:
            yield cells[at], {name: text for name, text in zip(header, cells, strict=False) if text}


_ANYHOW = (-1, -1)


def _write(
    path: str,
    columns: Sequence[str],
    rows: Iterator[dict[str, str]],
    *,
    unless_changed: tuple[int, int] | None = _ANYHOW,
) -> bool:
    """Write a file and put it in the place of the one there; False when that has changed from its mark."""
    shared = os.stat(os.path.dirname(path)).st_mode & 0o020
    mode = 0o660 if shared else 0o600
    partial = f"{path}.{os.getpid()}.partial"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), mode)
    try:
        with open(fd, "wb") as file:
            if shared and hasattr(os, "fchmod"):
                os.fchmod(fd, mode)  # past the umask
            file.write(line_of(columns))
            file.writelines(line_of([row.get(name, "") for name in columns]) for row in rows)
        if unless_changed in (_ANYHOW, _mark(path)):
            os.replace(partial, path)
            return True
        os.unlink(partial)
    except BaseException:
        try:
            os.unlink(partial)
        except OSError:
            pass  # the error that is on its way says more
        raise
    return False
