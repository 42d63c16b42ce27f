"""`runcard.query.select` and `rank` over a database: SQL decides which runs, and in what order where it can.

The rows of runs that ended are filtered by SQL, as far as it says exactly what Python would; what is left is tested in
Python on lean records. A limit goes into the query when the order is one that an index has. Runs that were running
when last heard of are few, and read whole: only their events tell how they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard._paths import MISSING
from runcard._ranking import At, check_at, is_result, metric_value, sign_of
from runcard._selecting import SortKey, arranged, check_limit, parse_sort, parse_status, predicate
from runcard._uncollected import uncollected
from runcard.sinks._sql_choice import NEWEST, Chosen, First, Question, is_unsayable
from runcard.sinks._sql_lean import lean_records
from runcard.sinks._sql_records import began
from runcard.sinks._sql_schema import is_current
from runcard.sinks._sql_where import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from runcard.record import RunRecord
    from runcard.sinks._sql_engine import Database, Transaction
    from runcard.sinks._sql_lean import Read

    Test = Callable[[RunRecord], bool]


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
        return self._answer(question, limit, lambda found: found.sorted_by(keys, limit), _first_by(keys))

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
            first = First("metrics", metric, "ASC" if sign == 1 else "DESC", finite=True)
        return self._answer(question, limit, lambda found: found.ranked_by(metric, direction, at, limit), first)

    def _answer(
        self, question: Question, limit: int | None, arrange: Callable[[_Found], list[RunRecord]], first: First | None
    ) -> list[RunRecord] | None:
        test, statuses = predicate(question.where), parse_status(question.status)

        def work(transaction: Transaction) -> _Found | None:
            if not is_current(transaction):
                return None
            chosen = Chosen(transaction, question, statuses)
            live = transaction.fetch("SELECT run_id, began FROM runcard_listing WHERE status = 'running'")
            if first in (None, NEWEST) or limit is None or not (chosen.is_whole and chosen.can_tell(first)):
                rows = chosen.newest_first(limit if first == NEWEST and chosen.is_whole else None)
            else:
                rows = sorted(chosen.first(first, limit), key=lambda row: (row[1], row[0]), reverse=True)
            if live:
                ended = {row[0] for row in rows}  # one may have ended between the two queries
                live = [row for row in live if row[0] not in ended]
            return _Found(self._database, self._read, rows, live, chosen)

        with uncollected():
            found = self._database.read(work, _NOTHING)
            if found is None or isinstance(found, list):
                return found
            found.restrict(question, test, statuses, limit if first == NEWEST else None)
            return arrange(found)


_NOTHING: Any = []


def _first_by(keys: Sequence[SortKey]) -> First | None:
    """What SQL can put the runs in order by; None when that is several keys, or nothing that a column holds."""
    if not keys:
        return NEWEST
    if len(keys) > 1:
        return None
    (key,) = keys
    way = "DESC" if key.descending else "ASC"
    if key.field == "metrics" and key.name is not None and not is_unsayable(key.name):
        return First("metrics", key.name, way)
    if key.text.lstrip("-+").strip() == key.field and key.field in COLUMNS:
        return First("field", key.field, way)
    return None


class _Found:
    """The runs that answer, newest first, each a place; and what is known of them in columns."""

    def __init__(self, database: Database, read: Read, rows: list[Any], live: list[Any], chosen: Chosen) -> None:
        self._database = database
        self._chosen = chosen
        self._live = live
        self._read = read
        self._began = [row[1] for row in rows]
        self.records: list[RunRecord] = lean_records([row[0] for row in rows], database, read)

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
        return lean_records([run_id for run_id, _ in self._live], self._database, self._read, live=True)

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
        elif self._tells_best(metric):
            values = self._best(metric, direction)
        else:
            values = [metric_value(record, metric, direction, at) for record in self.records]
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


_FEW = 5_000  # records for which their ids go into the query
_NAN = float("nan")
_KINDS = {"true": True, "false": False, "none": None, "nan": _NAN}
