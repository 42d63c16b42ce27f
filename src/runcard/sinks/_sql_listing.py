"""`runcard.query.select` and `rank` over a database: SQL decides which runs, and in what order where it can.

The rows of runs that ended are filtered by SQL, as far as it says exactly what Python would; what is left is tested in
Python on lean records. A limit goes into the query when the order is one that an index has. Runs that were running
when last heard of are few, and read one by one: only their events tell how they stand.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from runcard._columns import ListedRecord
from runcard._paths import MISSING
from runcard._ranking import At, check_at, is_result, metric_value, sign_of
from runcard._selecting import SortKey, arranged, check_limit, parse_sort, parse_status, predicate
from runcard.errors import RunNotFound
from runcard.record import RunRecord, Status
from runcard.sinks._sql_numbers import label
from runcard.sinks._sql_records import HEAVY, began
from runcard.sinks._sql_schema import is_current
from runcard.sinks._sql_where import COLUMNS, Condition, conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from runcard.sinks._sql_engine import Database, Transaction

    Test = Callable[[RunRecord], bool]
    Read = Callable[[list[str]], list[RunRecord]]

BLOCK = 1_000  # runs whose lean fields are read at a time
AHEAD = 50  # records that are read at a time
_GREATEST = sys.float_info.max


class Question(NamedTuple):
    """Which runs are asked for.

    Attributes:
        where: An expression, or any predicate of a record.
        experiment: The experiment's name in full.
        status: A status or several.
    """

    where: str | Test | None = None
    experiment: str | None = None
    status: str | Collection[str] | None = None

    @property
    def is_all(self) -> bool:
        """Whether every run answers."""
        return self.where is None and self.experiment is None and self.status is None


class Listing:
    """The runs of one database.

    Args:
        database: Where they are.
        read: Reads the records of runs by their ids, those that are there.
    """

    def __init__(self, database: Database, read: Read) -> None:
        self._database = database
        self._read = read

    def runs(self, question: Question, sort: str | Collection[str] | None, limit: int | None) -> list[RunRecord] | None:
        """The same as `runcard.query.select` over all records; None when the tables are of another version.

        Raises:
            QueryError: When an expression, a key, a status or the limit cannot be understood.
            StoreError: When the database cannot be read.
        """
        keys = [] if sort is None else parse_sort(sort)
        check_limit(limit)
        key = keys[0] if len(keys) == 1 else None
        return self._answer(question, limit, lambda found: found.sorted_by(keys, limit), _first_by(key))

    def ranked(
        self, question: Question, metric: str, direction: str, at: At, limit: int | None
    ) -> list[RunRecord] | None:
        """The same as `runcard.query.rank` over all records; None when the tables are of another version.

        Raises:
            SettingError: When the direction or ``at`` is another word; `QueryError` as `runs`.
            StoreError: When the database cannot be read.
        """
        sign = sign_of(direction)
        check_at(at)
        check_limit(limit)
        first = None
        if at == "last" and not is_unsayable(metric):
            first = _First("metrics", metric, "ASC" if sign == 1 else "DESC", finite=True)
        return self._answer(question, limit, lambda found: found.ranked_by(metric, direction, at, limit), first)

    def _answer(
        self, question: Question, limit: int | None, arrange: Callable[[_Found], list[RunRecord]], first: _First | None
    ) -> list[RunRecord] | None:
        test, statuses = predicate(question.where), parse_status(question.status)

        def work(transaction: Transaction) -> _Found | None:
            if not is_current(transaction):
                return None
            chosen = _Chosen(transaction, question, statuses)
            live = transaction.fetch("SELECT run_id, began FROM runcard_listing WHERE status = 'running'")
            if first in (None, _NEWEST) or limit is None or not (chosen.is_whole and chosen.can_tell(first)):
                rows = chosen.newest_first(limit if first == _NEWEST and chosen.is_whole else None)
            else:
                rows = sorted(chosen.first(first, limit), key=lambda row: (row[1], row[0]), reverse=True)
            if live:
                ended = {row[0] for row in rows}  # one may have ended between the two queries
                live = [row for row in live if row[0] not in ended]
            return _Found(self._database, self._read, rows, live, chosen)

        found = self._database.read(work, _NOTHING)
        if found is None or isinstance(found, list):
            return found
        found.restrict(question, test, statuses, limit if first == _NEWEST else None)
        return arrange(found)


class _First(NamedTuple):
    """An order of which SQL can give the first ones: by a column of `runcard_listing`, or by a metric."""

    kind: str
    name: str
    way: str
    finite: bool = False


_NEWEST = _First("field", "started_at", "")  # the order that all others keep among equals
_NOTHING: Any = []


def _first_by(key: SortKey | None) -> _First | None:
    if key is None:
        return _NEWEST
    way = "DESC" if key.descending else "ASC"
    if key.field == "metrics" and key.name is not None and not is_unsayable(key.name):
        return _First("metrics", key.name, way)
    if key.text.lstrip("-+").strip() == key.field and key.field in COLUMNS:
        return _First("field", key.field, way)
    return None


class _Chosen:
    """The ended runs that a question asks for, as far as SQL tells."""

    def __init__(self, transaction: Transaction, question: Question, statuses: frozenset[str] | None) -> None:
        self.transaction = transaction
        asked, self.is_whole = _asked(question, statuses)
        self._odd = {(field, name) for field, name in transaction.fetch("SELECT field, name FROM runcard_inexact")}
        usable = [each for each in asked if not each.relies_on & self._odd]
        self.is_whole = self.is_whole and len(usable) == len(asked)
        self._where = " AND ".join(["l.status <> 'running'", *(each.sql for each in usable)])
        self._parameters = {name: value for each in usable for name, value in each.parameters.items()}
        self._by_bytes = "" if transaction.is_sqlite else ' COLLATE "C"'  # as Python compares texts
        self._newest = f"l.began DESC, l.run_id{self._by_bytes} DESC"

    def tells(self, field: str, name: str = "") -> bool:
        """Whether the tables tell a field, a setting or a metric of every run exactly."""
        return (field, label(name)) not in self._odd

    def can_tell(self, first: _First | None) -> bool:
        """Whether SQL can put the runs in this order."""
        if first is None:
            return False
        return self.tells("metrics", first.name) if first.kind == "metrics" else self.tells(first.name)

    def newest_first(self, limit: int | None) -> list[Any]:
        """Their ids and when they began, latest first."""
        if limit is not None:
            return self._fetch("SELECT l.run_id, l.began FROM runcard_listing l", "", self._newest, limit)
        oldest = f"l.began, l.run_id{self._by_bytes}"  # SQLite reads an index forwards five times as fast
        return self._fetch("SELECT l.run_id, l.began FROM runcard_listing l", "", oldest, None)[::-1]

    def first(self, order: _First, limit: int) -> list[Any]:
        """Those that come first: so many of them, when there are."""
        if order.kind == "field":
            column = f"l.{COLUMNS[order.name]}"
            by = f"{column}{self._by_bytes if order.name in _TEXTS else ''}"
            order_by = f"({column} IS NULL), {by} {order.way}, {self._newest}"
            return self._fetch("SELECT l.run_id, l.began FROM runcard_listing l", "", order_by, limit)
        bounds = " AND m.last BETWEEN :least AND :greatest" if order.finite else ""
        has = f"m.name = :metric AND m.exact IS NULL{bounds}"
        rows = self._fetch(
            "SELECT l.run_id, l.began FROM runcard_metrics m JOIN runcard_listing l ON l.run_id = m.run_id",
            f"{has} AND ",
            f"m.last {order.way}, {self._newest}",
            limit,
            metric=order.name,
        )
        if len(rows) < limit:
            rows += self._fetch(
                "SELECT l.run_id, l.began FROM runcard_listing l",
                f"NOT EXISTS (SELECT 1 FROM runcard_metrics m WHERE m.run_id = l.run_id AND {has}) AND ",  # noqa: S608 - ours
                self._newest,
                limit - len(rows),
                metric=order.name,
            )
        return rows

    def _fetch(self, select: str, more: str, order: str, limit: int | None, **parameters: Any) -> list[Any]:
        statement = f"{select} WHERE {more}{self._where} ORDER BY {order}"
        if limit is not None:
            statement += " LIMIT :limit"
            parameters["limit"] = min(limit, 2**62)
        if ":least" in statement:
            parameters |= {"least": -_GREATEST, "greatest": _GREATEST}
        return self.transaction.fetch(statement, **self._parameters, **parameters)


def _asked(question: Question, statuses: frozenset[str] | None) -> tuple[list[Condition], bool]:
    found: list[Condition] = []
    whole = True
    if question.experiment is not None:
        if is_unsayable(question.experiment):
            whole = False
        else:
            given = {"experiment": question.experiment}
            found.append(Condition("l.experiment = :experiment", given, {("experiment", "")}))
    if statuses is not None:
        names = ", ".join(f"'{status}'" for status in sorted(statuses)) or "''"
        found.append(Condition(f"l.status IN ({names})", {}))  # words of `Status`
    if isinstance(question.where, str):
        terms, all_of_it = conditions(question.where)
        found += terms
        whole = whole and all_of_it
    elif question.where is not None:
        whole = False
    return found, whole


def is_unsayable(text: Any) -> bool:
    """Whether something cannot be a parameter: it is no text, or none that PostgreSQL takes."""
    if not isinstance(text, str) or "\0" in text:
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class _Found:
    """The runs that answer, newest first, each a place; and what is known of them in columns."""

    def __init__(self, database: Database, read: Read, rows: list[Any], live: list[Any], chosen: _Chosen) -> None:
        self._database = database
        self._chosen = chosen
        self._live = live
        self._read = read
        self._began = [row[1] for row in rows]
        self.records: list[RunRecord] = _listed([row[0] for row in rows], database, read)

    def restrict(
        self, question: Question, test: Test | None, statuses: frozenset[str] | None, limit: int | None
    ) -> None:
        """Test in Python what SQL could not tell, and let the runs that go on take their places."""

        def answers(record: RunRecord) -> bool:
            return (
                (question.experiment is None or record.experiment == question.experiment)
                and (statuses is None or record.status in statuses)
                and (test is None or test(record))
            )

        if question.is_all:
            live = [(moment, record) for (_, moment), record in zip(self._live, self._live_records(), strict=True)]
        else:
            read = self._read([run_id for run_id, _ in self._live]) if self._live else []
            live = [(began(record), record) for record in read if answers(record)]
        if not self._chosen.is_whole:
            kept = []
            for place, record in enumerate(self.records):
                if answers(record):
                    kept.append(place)
                    if limit is not None and len(kept) == limit:
                        break
            self._began = [self._began[place] for place in kept]
            self.records = [self.records[place] for place in kept]
        self._live_ids = {record.run_id for _, record in live}
        if live:
            self._merge(live)

    def _live_records(self) -> list[RunRecord]:
        return _listed([run_id for run_id, _ in self._live], self._database, self._read, live=True)

    def _merge(self, live: list[tuple[int, RunRecord]]) -> None:
        moments = [*self._began, *(moment for moment, _ in live)]
        records = [*self.records, *(record for _, record in live)]
        order = sorted(range(len(records)), key=lambda at: (moments[at], records[at].run_id), reverse=True)
        self._began = [moments[at] for at in order]
        self.records = [records[at] for at in order]

    def sorted_by(self, keys: Sequence[SortKey], limit: int | None) -> list[RunRecord]:
        """The runs in the order of the keys."""
        places = list(range(len(self.records)))
        for key in reversed(keys):
            values = self._values(key)
            places = arranged([values[place] for place in places], places, descending=key.descending)
        return [self.records[place] for place in places[:limit]]

    def ranked_by(self, metric: str, direction: str, at: At, limit: int | None) -> list[RunRecord]:
        """The runs, best first."""
        sign = sign_of(direction)
        if at == "last":
            values = self._metric(metric)
        elif is_unsayable(metric) or not (
            self._chosen.tells("metrics", metric) and self._chosen.tells("amended", metric)
        ):
            values = [metric_value(record, metric, direction, at) for record in self.records]
        else:
            values = self._best(metric, direction)
        signed = [sign * value if is_result(value) else None for value in values]
        return arranged(signed, self.records, descending=False)[:limit]

    def _values(self, key: SortKey) -> list[Any]:
        """What a sort key reads of each run, from a column where there is one."""
        if key.field == "metrics" and key.name is not None and not is_unsayable(key.name):
            return self._metric(key.name)
        if key.field == "config" and key.name is not None and not is_unsayable(key.name):
            return self._setting(key)
        if key.text.lstrip("-+").strip() == key.field and key.field in COLUMNS and self._chosen.tells(key.field):
            return self._field(key)
        return [key.read(record) for record in self.records]

    def _metric(self, name: str) -> list[Any]:
        if is_unsayable(name) or not self._chosen.tells("metrics", name):
            return [record.metrics.get(name, MISSING) for record in self.records]
        # In the order of an index that has all that is asked for: PostgreSQL would read the whole table else.
        rows = self._ask("SELECT run_id, last, exact FROM runcard_metrics WHERE name = :name", "last", name=name)
        known = {run_id: _NAN if exact is not None else last for run_id, last, exact in rows}
        return self._from(known, lambda record: record.metrics.get(name, MISSING))

    def _tells_best(self, metric: str) -> bool:
        chosen = self._chosen
        return not is_unsayable(metric) and chosen.tells("metrics", metric) and chosen.tells("amended", metric)

    def _best(self, name: str, direction: str) -> list[Any]:
        bound, better = ("min", min) if direction == "minimize" else ("max", max)
        rows = self._ask(f"SELECT run_id, last, {bound} FROM runcard_metrics WHERE name = :name", "last", name=name)  # noqa: S608 - one of two words
        known: dict[str, Any] = {}
        for run_id, *values in rows:
            known[run_id] = better(filter(is_result, values), default=None)
        return self._from(known, lambda record: metric_value(record, name, direction, "best"))

    def _setting(self, key: SortKey) -> list[Any]:
        from runcard.values import path_join

        path = path_join("", key.name or "")
        if not self._chosen.tells("config", path):
            return [key.read(record) for record in self.records]
        select = "SELECT run_id, {} FROM runcard_config WHERE path = :path AND kind {} 'text'"
        numbers = self._ask(select.format("kind, number", "<>"), "number", path=path)
        known = {run_id: number if kind == "number" else _KINDS[kind] for run_id, kind, number in numbers}
        known.update(self._ask(select.format("value", "="), "number", path=path))
        return self._from(known, key.read)

    def _field(self, key: SortKey) -> list[Any]:
        if key.field == "run_id":
            return [record.run_id for record in self.records]
        if key.field == "started_at":
            return self._began
        rows = self._ask(f"SELECT run_id, {COLUMNS[key.field]} FROM runcard_listing WHERE 1 = 1", "run_id")  # noqa: S608 - a name of ours
        return self._from(dict(rows), key.read)

    def _from(self, known: dict[str, Any], read: Callable[[RunRecord], Any]) -> list[Any]:
        get, live = known.get, self._live_ids
        if not live:
            return [get(record.run_id, MISSING) for record in self.records]
        return [read(r) if r.run_id in live else get(r.run_id, MISSING) for r in self.records]

    def _ask(self, statement: str, order: str, **parameters: Any) -> list[Any]:
        """Rows by run: of all runs, or of those found when they are few."""
        if len(self.records) > _FEW:
            return self._database.read(lambda t: t.fetch(f"{statement} ORDER BY {order}", **parameters), [])
        ids = [record.run_id for record in self.records]
        return self._database.read(
            lambda t: t.fetch(f"{statement} AND run_id {t.among('ids')}", ids=t.listed(ids), **parameters), []
        )


class _Block:
    """The lean fields of some runs, read together when one of them is looked at."""

    __slots__ = ("_ahead", "_database", "_fields", "_ids", "_last", "_read")

    def __init__(self, ids: list[str], database: Database, read: Read) -> None:
        self._ids = ids
        self._database = database
        self._fields: dict[str, str] | None = None
        self._read = read
        self._last = -2  # the place that was read whole
        self._ahead: dict[str, RunRecord] = {}

    def whole(self, run_id: str) -> RunRecord:
        """The record of a run; where one after the other is asked for, some are read at once. Raises `RunNotFound`."""
        place = self._ids.index(run_id)
        if place == self._last + 1 and run_id not in self._ahead:
            self._ahead = {record.run_id: record for record in self._read(self._ids[place : place + AHEAD])}
        self._last = place
        return self._ahead.pop(run_id, None) or _only(self._read([run_id]), run_id)

    def take(self, run_id: str) -> str:
        """What is known of a run as JSON; nothing when it is not there any more."""
        if self._fields is None:
            self._fields = self._database.read(self._all, dict[str, str]())
        return self._fields.pop(run_id, "")

    def _all(self, transaction: Transaction) -> dict[str, str]:
        return dict(
            transaction.fetch(
                f"SELECT run_id, fields FROM runcard_lean WHERE run_id {transaction.among('ids')}",  # noqa: S608 - ours
                ids=transaction.listed(self._ids),
            )
        )


class LeanRecord(ListedRecord):
    """A record of a listing: what listings show is read with that of its neighbours, the rest from the run itself.

    The first look at the rest reads the run, and all fields are then of that one reading.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Called for a field that is not filled in yet."""
        if name not in _FIELDS:
            raise AttributeError(name)
        text = self._table  # a block, then what it tells of this run: parsed, it would take five times the memory
        if type(text) is _Block:
            text = text.take(self.run_id)
            object.__setattr__(self, "_table", text)
        if not text or name in HEAVY:
            return self._complete(name)
        told = orjson.loads(text)
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


def _listed(ids: list[str], database: Database, read: Read, *, live: bool = False) -> list[RunRecord]:
    """Records that nothing is read of yet; those that go on are only ever read whole."""
    found: list[RunRecord] = []
    make, put = LeanRecord.__new__, object.__setattr__
    for at in range(0, len(ids), BLOCK):
        some = ids[at : at + BLOCK]
        block = _Block(some, database, read)
        told: Any = "" if live else block
        for run_id in some:
            record = make(LeanRecord)
            put(record, "run_id", run_id)
            put(record, "folder", None)
            put(record, "_table", told)
            put(record, "_read", block.whole)
            found.append(record)
    return found


def _only(records: list[RunRecord], run_id: str) -> RunRecord:
    if not records:
        raise RunNotFound(f"the run {run_id!r} is not there any more")
    return records[0]


_FEW = 5_000  # records for which their ids go into the query
_NAN = float("nan")
_KINDS = {"true": True, "false": False, "none": None, "nan": _NAN}
_FIELDS = frozenset(RunRecord.__dataclass_fields__)
_SIMPLE = frozenset(
    (
        *("name", "experiment", "status", "started_at", "ended_at", "duration_s", "parent_id", "decision", "is_best"),
        *("objective", "direction", "config_hash", "user", "host"),
    )
)
"""Fields that are taken from the JSON as they are, all at once."""
_STATUSES = {status.value: status for status in Status}
_TEXTS = frozenset(COLUMNS) - {"duration_s", "is_best", "started_at"}
