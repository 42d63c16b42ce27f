"""`select` and `rank` over an index: the columns decide which runs, and only those become records."""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from runcard._columns import PLAIN, TIMES, DamagedError, Table
from runcard._paths import MISSING
from runcard._ranking import At, check_at, is_result, metric_value, sign_of
from runcard._selecting import SortKey, arranged, check_limit, parse_sort, parse_status, predicate
from runcard._uncollected import uncollected

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from runcard.index import Index
    from runcard.record import RunRecord


def listing(
    index: Index,
    where: str | Callable[[RunRecord], bool] | None = None,
    experiment: str | None = None,
    status: str | Collection[str] | None = None,
    sort: str | Collection[str] | None = None,
    limit: int | None = None,
) -> list[RunRecord]:
    """The same as `runcard.query.select` over all records of the index, sooner.

    Raises:
        QueryError: When an expression, a key, a status or the limit cannot be understood.
        OSError: When the store cannot be listed.
    """
    keys = None if sort is None else parse_sort(sort)
    limit = check_limit(limit)

    def choose() -> list[RunRecord]:
        runs = _Chosen(index, where, experiment, status)
        return runs.picked(runs.arranged([(runs.values(key), key.descending) for key in keys or ()])[:limit])

    return _undamaged(index, choose)


def ranking(
    index: Index,
    metric: str,
    direction: str,
    *,
    at: At = "last",
    where: str | Callable[[RunRecord], bool] | None = None,
    experiment: str | None = None,
    status: str | Collection[str] | None = None,
    limit: int | None = None,
) -> list[RunRecord]:
    """The same as `runcard.query.rank` over the records of the index, newest first among equals, sooner.

    Raises:
        SettingError: When the direction or ``at`` is another word.
        QueryError: When an expression, a status or the limit cannot be understood.
        OSError: When the store cannot be listed.
    """
    sign = sign_of(direction)
    check_at(at)
    limit = check_limit(limit)

    def choose() -> list[RunRecord]:
        runs = _Chosen(index, where, experiment, status)
        if at == "last":
            values = runs.cells("metrics", metric)
        else:
            values = [metric_value(record, metric, direction, at) for record in runs.all()]
        return runs.picked(runs.arranged([(_signed(values, sign), False)])[:limit])

    return _undamaged(index, choose)


def _all_differ(values: list[Any]) -> bool:
    """Whether these are finite numbers of which no two are equal: then nothing else decides their order."""
    return set(map(type, values)) == {float} and all(map(math.isfinite, values)) and len(set(values)) == len(values)


def _signed(values: list[Any], sign: int) -> list[int | float | None]:
    """The values so that less is better; None for what is no result."""
    if set(map(type, values)) == {float} and all(map(math.isfinite, values)):
        return values if sign == 1 else list(map(operator.neg, values))
    return [sign * value if is_result(value) else None for value in values]


def _undamaged(index: Index, choose: Callable[[], list[RunRecord]]) -> list[RunRecord]:
    """Read what is kept; when a part of it turns out to be damaged, throw it away and read the runs."""
    with uncollected():
        try:
            return choose()
        except DamagedError:
            index.forget()
            return choose()


class _Chosen:
    """The runs that meet the conditions, each known by its place: those of the tables first, then the other records."""

    def __init__(
        self,
        index: Index,
        where: str | Callable[[RunRecord], bool] | None,
        experiment: str | None,
        status: str | Collection[str] | None,
    ) -> None:
        test, statuses = predicate(where), parse_status(status)
        rows = index.rows()
        self.tables: list[tuple[Table, list[int]]] = []
        for table, kept in rows.tables:
            chosen = kept
            if experiment is not None:
                column = table.column("experiment", "")
                chosen = [row for row in chosen if column[row] == experiment]
            if statuses is not None:
                column = table.column("status", "")
                chosen = [row for row in chosen if column[row] in statuses]
            if test is not None:
                records = table.records(chosen)
                chosen = [row for row, record in zip(chosen, records, strict=True) if test(record)]
            if chosen:
                self.tables.append((table, chosen))
        self.records = [
            record
            for record in rows.records
            if (experiment is None or record.experiment == experiment)
            and (statuses is None or record.status in statuses)
            and (test is None or test(record))
        ]
        self.starts = list(accumulate((len(chosen) for _, chosen in self.tables), initial=0))
        self.size = self.starts[-1] + len(self.records)

    def all(self) -> list[RunRecord]:
        """All records, by place."""
        return [record for table, chosen in self.tables for record in table.records(chosen)] + self.records

    def picked(self, places: list[int]) -> list[RunRecord]:
        """The records at some places."""
        if len(places) * 2 > self.size:
            everything = self.all()
            return [everything[place] for place in places]
        return [self._record(place) for place in places]

    def _record(self, place: int) -> RunRecord:
        which = bisect_right(self.starts, place) - 1
        if which == len(self.tables):
            return self.records[place - self.starts[-1]]
        table, chosen = self.tables[which]
        return table.records([chosen[place - self.starts[which]]])[0]

    def arranged(self, keys: Sequence[tuple[list[Any], bool]]) -> list[int]:
        """All places in the order of some keys, each its values by place and whether it descends; then newest first."""
        if len(keys) == 1 and _all_differ(keys[0][0]):
            return arranged(keys[0][0], range(self.size), descending=keys[0][1])
        places = self._newest_first()
        for values, descending in reversed(keys):
            places = arranged([values[place] for place in places], places, descending=descending)
        return places

    def _newest_first(self) -> list[int]:
        """All places, by the start of their runs, latest first; a lost start goes by the run's id."""
        starts = self._column(
            "started_at", None, [each.started_at and each.started_at.isoformat() for each in self.records]
        )
        ids = [run_id for table, chosen in self.tables for run_id in _picked(table.run_ids, table, chosen)]
        ids += [record.run_id for record in self.records]
        whens = [(start or _from_id(run_id)) + run_id for start, run_id in zip(starts, ids, strict=True)]
        return arranged(whens, range(len(whens)), descending=True)

    def values(self, key: SortKey) -> list[Any]:
        """What a sort key reads of each run, from a column where there is one."""
        if key.name is not None and key.field in ("config", "metrics"):
            return self.cells(key.field, key.name)
        if key.text.lstrip("-+").strip() == key.field and key.field in PLAIN and key.field not in TIMES:
            return self._column(key.field, PLAIN[key.field], [getattr(record, key.field) for record in self.records])
        return [key.read(record) for record in self.all()]

    def cells(self, field: str, name: str) -> list[Any]:
        """One setting or metric of each run."""
        return self._column(
            f"{field}.{name}", MISSING, [getattr(run, field).get(name, MISSING) for run in self.records]
        )

    def _column(self, name: str, default: Any, rest: list[Any]) -> list[Any]:
        found: list[Any] = []
        for table, chosen in self.tables:
            found += _picked(table.column(name, default), table, chosen)
        return found + rest


def _picked(column: Any, table: Table, chosen: list[int]) -> list[Any]:
    if isinstance(column, list) and len(chosen) == table.size:  # all of them, and in the order of the rows
        return column
    return [column[row] for row in chosen]


def _from_id(run_id: str) -> str:
    """When a run whose start is lost began, by its id, in the form of the others."""
    d = run_id
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[9:11]}:{d[11:13]}:{d[13:15]}+00:00"
