"""`select` and `rank` over an index: the columns decide which runs, and only those become records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runcard._columns import NESTED, PLAIN, TIMES, DamagedError, Table
from runcard._paths import MISSING
from runcard._ranking import At, check_at, is_result, metric_value, sign_of
from runcard._selecting import SortKey, arranged, check_limit, parse_sort, parse_status, predicate
from runcard.record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from runcard.index import Index

Item = tuple[Table, int] | RunRecord


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
        items = _newest_first(_items(index, where, experiment, status))
        for key in reversed(keys or ()):
            items = arranged(_values(index, items, key), items, descending=key.descending)
        return [_record(index, item) for item in items[:limit]]

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
        items = _newest_first(_items(index, where, experiment, status))
        if at == "last":
            values = _cells(items, "metrics", metric)
        else:
            values = [metric_value(_record(index, item), metric, direction, at) for item in items]
        signed = [sign * value if is_result(value) else None for value in values]
        return [_record(index, item) for item in arranged(signed, items, descending=False)[:limit]]

    return _undamaged(index, choose)


def _undamaged(index: Index, choose: Callable[[], list[RunRecord]]) -> list[RunRecord]:
    """Read what is kept; when a part of it turns out to be damaged, throw it away and read the runs."""
    try:
        return choose()
    except DamagedError:
        index.forget()
        return choose()


def _items(
    index: Index,
    where: str | Callable[[RunRecord], bool] | None,
    experiment: str | None,
    status: str | Collection[str] | None,
) -> list[Item]:
    test, statuses = predicate(where), parse_status(status)
    rows = index.rows()
    items: list[Item] = []
    for table, kept in rows.tables:
        chosen = kept
        if experiment is not None:
            experiments = table.column("experiment", "")
            chosen = [row for row in chosen if experiments[row] == experiment]
        if statuses is not None:
            column = table.column("status", "")
            chosen = [row for row in chosen if column[row] in statuses]
        if test is not None:
            chosen = [row for row in chosen if test(index.listed(table, row))]
        items += [(table, row) for row in chosen]
    items += [
        record
        for record in rows.records
        if (experiment is None or record.experiment == experiment)
        and (statuses is None or record.status in statuses)
        and (test is None or test(record))
    ]
    return items


def _newest_first(items: list[Item]) -> list[Item]:
    whens: list[str] = []
    last: Table | None = None
    starts: Any = ()
    ids: list[str] = []
    for item in items:
        if isinstance(item, RunRecord):
            started, run_id = item.started_at.isoformat() if item.started_at else None, item.run_id
        else:
            table, row = item
            if table is not last:
                last, starts, ids = table, table.column("started_at"), table.run_ids
            started, run_id = starts[row], ids[row]
        whens.append((started or _from_id(run_id)) + run_id)
    return arranged(whens, items, descending=True)


def _from_id(run_id: str) -> str:
    """When a run whose start is lost began, by its id, in the form of the others."""
    d = run_id
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[9:11]}:{d[11:13]}:{d[13:15]}+00:00"


def _values(index: Index, items: list[Item], key: SortKey) -> list[Any]:
    """What a sort key reads of each item, from a column where there is one."""
    if key.name is not None and key.field in NESTED[:2]:
        return _cells(items, key.field, key.name)
    if key.text.lstrip("-+").strip() == key.field and key.field in PLAIN and key.field not in TIMES:
        default = PLAIN[key.field]
        return [
            getattr(item, key.field) if isinstance(item, RunRecord) else item[0].column(key.field, default)[item[1]]
            for item in items
        ]
    return [key.read(_record(index, item)) for item in items]


def _cells(items: list[Item], field: str, name: str) -> list[Any]:
    column = f"{field}.{name}"
    columns: dict[int, Any] = {}
    found = []
    for item in items:
        if isinstance(item, RunRecord):
            found.append(getattr(item, field).get(name, MISSING))
            continue
        table, row = item
        values = columns.get(id(table))
        if values is None:
            values = columns[id(table)] = table.column(column, MISSING)
        found.append(values[row])
    return found


def _record(index: Index, item: Item) -> RunRecord:
    return item if isinstance(item, RunRecord) else index.listed(*item)
