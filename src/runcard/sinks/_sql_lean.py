"""The records of a database's listing: lean, filled in when they are looked at, some at a time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from runcard._columns import ListedRecord
from runcard.errors import RunNotFound
from runcard.record import RunRecord, Status
from runcard.sinks._sql_records import HEAVY

if TYPE_CHECKING:
    from collections.abc import Callable

    from runcard.sinks._sql_engine import Database, Transaction

    Read = Callable[[list[str]], list[RunRecord]]

BLOCK = 1_000  # runs whose lean fields are read at a time
AHEAD = 50  # records that are read whole at a time


class LeanRecord(ListedRecord):
    """A record of a listing: what listings show is read with that of its neighbours, the rest from the run itself.

    The first look at the rest reads the run, and all fields are then of that one reading.
    """

    __slots__ = ("_block",)

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not filled in yet."""
        if name not in _FIELDS:
            raise AttributeError(name)
        if name == "folder":
            return None
        block: _Block = self._block
        told = orjson.loads(block.told(self.run_id)) if name not in HEAVY else {}
        if name not in told:
            return self._complete(name)
        if name not in _SIMPLE:
            value = getattr(RunRecord.from_dict({"run_id": self.run_id, name: told[name]}), name)
            object.__setattr__(self, name, value)
            return value
        for each in _SIMPLE:
            value = told[each]
            if each == "status":
                value = _STATUSES[value]
            elif value and each in ("started_at", "ended_at"):
                value = datetime.fromisoformat(value)
            object.__setattr__(self, each, value)
        return getattr(self, name)

    def _complete(self, name: str) -> Any:
        record = self._block.whole(self.run_id)
        for each in _FIELDS:
            object.__setattr__(self, each, getattr(record, each))
        return getattr(self, name)


def lean_records(ids: list[str], database: Database, read: Read, *, live: bool = False) -> list[RunRecord]:
    """Records of which nothing is read yet.

    Args:
        ids: Their runs.
        database: Where they are.
        read: Reads the records of runs whole, those that are there.
        live: Whether they go on, so that they are only ever read whole.
    """
    found: list[RunRecord] = []
    make, put_id, put_block = LeanRecord.__new__, _slot("run_id"), _slot("_block")
    for at in range(0, len(ids), BLOCK):
        some = ids[at : at + BLOCK]
        block = _Block(some, database, read, live=live)
        for run_id in some:
            record = make(LeanRecord)
            put_id(record, run_id)
            put_block(record, block)
            found.append(record)
    return found


class _Block:
    """Runs that are read together when one of them is looked at."""

    __slots__ = ("_ahead", "_database", "_ids", "_last", "_read", "_told")

    def __init__(self, ids: list[str], database: Database, read: Read, *, live: bool) -> None:
        self._ids = ids
        self._database = database
        self._read = read
        self._told: dict[str, str] | None = {} if live else None
        self._last = -2  # the place that was read whole
        self._ahead: dict[str, RunRecord] = {}

    def told(self, run_id: str) -> str:
        """The lean fields of a run as JSON: parsed, they would take five times the memory."""
        if self._told is None:
            nothing: dict[str, str] = {}
            self._told = self._database.read(self._lean, nothing)
        return self._told.get(run_id, "{}")

    def whole(self, run_id: str) -> RunRecord:
        """The record of a run; where one after the other is asked for, some are read at once. Raises `RunNotFound`."""
        place = self._ids.index(run_id)
        if place == self._last + 1 and run_id not in self._ahead:
            self._ahead = {record.run_id: record for record in self._read(self._ids[place : place + AHEAD])}
        self._last = place
        found = self._ahead.pop(run_id, None) or next(iter(self._read([run_id])), None)
        if found is None:
            raise RunNotFound(f"the run {run_id!r} is not there any more")
        return found

    def _lean(self, transaction: Transaction) -> dict[str, str]:
        return dict(
            transaction.fetch(
                f"SELECT run_id, fields FROM runcard_lean WHERE run_id {transaction.among('ids')}",  # noqa: S608 - ours
                ids=transaction.listed(self._ids),
            )
        )


def _slot(name: str) -> Callable[[Any, Any], None]:
    """What sets a field of a frozen record, in a third of the time that `object.__setattr__` takes."""
    for kind in LeanRecord.__mro__:
        if name in kind.__dict__:
            setter: Callable[[Any, Any], None] = kind.__dict__[name].__set__
            return setter
    raise AttributeError(name)


_FIELDS = frozenset(RunRecord.__dataclass_fields__)
_SIMPLE = frozenset(
    (
        *("name", "experiment", "status", "started_at", "ended_at", "duration_s", "parent_id", "decision", "is_best"),
        *("objective", "direction", "config_hash", "user", "host"),
    )
)
"""Fields that are taken from the JSON as they are, all at once."""
_STATUSES = {status.value: status for status in Status}
