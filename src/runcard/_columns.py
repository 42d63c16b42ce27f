"""Lean records by column: how `index` keeps many runs in a file of which a listing reads only the columns it needs.

A file is a line of magic, the length and CRC-32 of a header, the header (JSON), and one JSON block a column, each with
its CRC-32 in the header. A column holds its values and, when not every row has one, the rows they are of; what a row
lacks is the field's default. ``config``, ``metrics`` and ``metric_summary`` are a column a key, and one that tells
which keys a row has, in their order. `ListedRecord` is a record over one row: the fields kept here are read when asked
for, all others from the run itself.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import repeat
from typing import IO, TYPE_CHECKING, Any
from zlib import crc32

import orjson

from runcard.events import mark, restore
from runcard.record import Fields, RunRecord, Status, as_fields

if TYPE_CHECKING:
    from pathlib import Path

Read = Callable[[str], RunRecord]
"""From a run's id to its record, read from the run itself."""

PLAIN = {
    "schema_version": 1,
    "name": "",
    "experiment": "",
    "status": "",
    "started_at": None,
    "ended_at": None,
    "duration_s": None,
    "parent_id": None,
    "launched_by": None,
    "rerun_of": None,
    "config_hash": None,
    "tags": [],
    "notes": "",
    "decision": None,
    "decision_reason": None,
    "is_best": None,
    "objective": None,
    "direction": None,
    "exit_code": None,
    "process_rank": None,
    "user": None,
    "host": None,
    "losses": {},
    "amendments": [],
}
"""The fields kept as they are, each with the default that takes no room."""
NESTED = ("config", "metrics", "metric_summary")
TIMES = ("started_at", "ended_at")

_MAGIC = b"runcard columns 1\n"
_SUMMARY = ("last", "last_step", "min", "min_step", "max", "max_step", "count")


class DamagedError(ValueError):
    """The file is not what was written."""


class Table:
    """The rows of one file.

    Attributes:
        run_ids: The run of each row.
        size: How many rows.
        read: Reads a run, for what the rows do not hold.
        root: The store's folder.
    """

    def __init__(self, source: Path | bytes, read: Read, root: str) -> None:
        """Take a file, or what one would hold. Columns are read from it when they are asked for.

        Raises:
            DamagedError: When its header, or the column of ids, is not what was written.
            OSError: When it cannot be read.
        """
        self._source = source
        self.read = read
        self.root = root
        try:
            with self._open() as file:
                magic = file.read(len(_MAGIC))
                length, crc = (int(part, 16) for part in file.read(18).split(b" "))
                header = file.read(length)
            if magic != _MAGIC or crc32(header) != crc:
                raise DamagedError("the header")
            self._places: dict[str, list[int]] = orjson.loads(header)
        except (ValueError, TypeError) as error:
            raise DamagedError("the header") from error
        self._start = len(_MAGIC) + 18 + length
        self._columns: dict[str, Any] = {}
        self.run_ids: list[str] = self._block("run_id")[1]
        self.size = len(self.run_ids)

    def _open(self) -> IO[bytes]:
        return io.BytesIO(self._source) if isinstance(self._source, bytes) else self._source.open("rb")

    def column(self, name: str, default: Any = None) -> Any:
        """The values of a column, indexed by row."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._column(name, default)
        return found

    def records(self, rows: Sequence[int]) -> list[RunRecord]:
        """The lean records of some rows: made by the ten thousand, each finds what it holds when it is asked."""
        made: list[RunRecord] = list(map(ListedRecord.__new__, repeat(ListedRecord, len(rows))))
        deque(map(ListedRecord._table.__set__, made, repeat(self)), 0)  # type: ignore[attr-defined]  # a slot
        deque(map(ListedRecord._row.__set__, made, rows), 0)  # type: ignore[attr-defined]  # likewise
        return made

    def shapes(self, name: str) -> tuple[Sequence[int], list[list[str]]]:
        """Which keys a nested field has: a number for each row, and the keys behind each number."""
        found = self._columns.get(name)
        if found is None:
            _, numbers, shapes = self._block(name)
            found = self._columns[name] = (numbers, shapes)
        return found

    def _block(self, name: str) -> Any:
        return self._read(name)[0]

    def _read(self, name: str) -> tuple[Any, bool]:
        """The content of a block, and whether there are marks of numbers in it."""
        try:
            offset, length, crc = self._places[name]
            with self._open() as file:
                file.seek(self._start + offset)
                block = file.read(length)
            if crc32(block) != crc:
                raise DamagedError(name)
            return orjson.loads(block), b'{"$' in block
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise DamagedError(name) from error

    def _column(self, name: str, default: Any) -> Any:
        if name not in self._places:
            return _Sparse(default)
        (rows, values), marked = self._read(name)
        if marked:
            values = restore(values)
        if rows is None:
            return values
        if len(rows) * 8 < self.size:
            return _Sparse(default, zip(rows, values, strict=True))
        dense = [default] * self.size
        for row, value in zip(rows, values, strict=True):
            dense[row] = value
        return dense


class _Sparse(dict[int, Any]):
    def __init__(self, default: Any, items: Iterable[tuple[int, Any]] = ()) -> None:
        super().__init__(items)
        self.default = default

    def __missing__(self, row: int) -> Any:
        return self.default


def encode(records: Sequence[RunRecord], extra: dict[str, list[Any]]) -> bytes:
    """The content of a file of these records, with further columns of plain values."""
    blocks = {"run_id": orjson.dumps([None, [record.run_id for record in records]])}
    for name, default in PLAIN.items():
        values = [getattr(record, name) for record in records]
        if name in TIMES:
            values = [value.isoformat() if value is not None else None for value in values]
        _add(blocks, name, [(row, value) for row, value in enumerate(values) if value != default], len(values))
    for name in NESTED:
        _add_nested(blocks, name, [getattr(record, name) for record in records])
    for name, values in extra.items():
        blocks[name] = orjson.dumps([None, values])
    places, offset = {}, 0
    for name, block in blocks.items():
        places[name] = [offset, len(block), crc32(block)]
        offset += len(block)
    header = orjson.dumps(places)
    return b"".join([_MAGIC, b"%08x %08x\n" % (len(header), crc32(header)), header, *blocks.values()])


def _add(blocks: dict[str, bytes], name: str, cells: list[tuple[int, Any]], size: int) -> None:
    if cells:
        rows = None if len(cells) == size else [row for row, _ in cells]
        blocks[name] = orjson.dumps([rows, mark([value for _, value in cells])])


def _add_nested(blocks: dict[str, bytes], name: str, values: list[dict[str, Any]]) -> None:
    shapes: dict[tuple[str, ...], int] = {}
    numbers = [shapes.setdefault(tuple(value), len(shapes)) for value in values]
    blocks[name] = orjson.dumps([None, numbers, list(shapes)])
    cells: dict[str, list[tuple[int, Any]]] = {}
    for row, value in enumerate(values):
        for key, item in value.items():
            kept = [item.get(part) for part in _SUMMARY] if name == "metric_summary" else item
            cells.setdefault(key, []).append((row, kept))
    for key, items in cells.items():
        _add(blocks, f"{name}.{key}", items, len(values))


class ListedRecord(RunRecord):
    """A record of a listing: what a table has of it is taken from there when asked for, the rest read from the run.

    The first look at anything else reads the run, and all fields are then of that one reading.
    """

    __slots__ = ("_read", "_row", "_table")

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not filled in yet."""
        if name not in _GIVEN:
            raise AttributeError(name)
        table, row = self._table, self._row
        try:
            if name == "run_id":
                value = table.run_ids[row]
            elif name == "folder":
                value = f"{table.root}{os.sep}{self.run_id}"
            elif name == "_read":
                value = table.read
            elif name in PLAIN:
                value = _plain_cell(table, row, name)
            elif name in NESTED:
                value = _nested_cell(table, row, name)
            else:
                return self._complete(name)
        except (DamagedError, LookupError, TypeError, ValueError):
            return self._complete(name)
        object.__setattr__(self, name, value)
        return value

    def _complete(self, name: str) -> Any:
        record = self._read(self.run_id)
        for each in _KNOWN:
            object.__setattr__(self, each, getattr(record, each))
        return getattr(self, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunRecord):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _COMPARED)

    __hash__ = None  # type: ignore[assignment]  # nor has a record: it holds mappings

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, ({name: getattr(self, name) for name in _KNOWN},)


def _rebuilt(values: dict[str, Any]) -> RunRecord:
    return RunRecord(**values)


def _plain_cell(table: Table, row: int, name: str) -> Any:
    value = table.column(name, PLAIN[name])[row]
    if name in TIMES:
        return None if value is None else datetime.fromisoformat(value)
    if name == "status":
        return Status(value)
    if isinstance(value, list):
        return as_fields(list(value))
    return dict(value) if isinstance(value, dict) else value


def _nested_cell(table: Table, row: int, name: str) -> Fields:
    numbers, shapes = table.shapes(name)
    cells = Fields()
    for key in shapes[numbers[row]]:
        value = table.column(f"{name}.{key}")[row]
        if name == "metric_summary":
            value = Fields(zip(_SUMMARY, value, strict=True))
        cells[key] = as_fields(value) if isinstance(value, (dict, list)) else value
    return cells


_KNOWN = tuple(each.name for each in fields(RunRecord))
_GIVEN = frozenset((*_KNOWN, "_read"))
_COMPARED = tuple(each.name for each in fields(RunRecord) if each.compare)
