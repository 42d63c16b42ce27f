"""Which records, and in what order: `select` and its sort keys."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from runcard._paths import MISSING, bad_path, look_up, parts
from runcard._where import NAMES, WITHOUT_FIELDS, unknown_name
from runcard._where import where as compile_where
from runcard.errors import QueryError
from runcard.record import RunRecord, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


T = TypeVar("T")


def select(
    records: Iterable[RunRecord],
    where: str | Callable[[RunRecord], bool] | None = None,
    experiment: str | None = None,
    status: str | Collection[str] | None = None,
    sort: str | Collection[str] | None = None,
    limit: int | None = None,
) -> list[RunRecord]:
    """The records that answer, newest first unless sorted otherwise.

    Args:
        records: Where to look.
        where: An expression, see `runcard.query.where`, or any predicate of a record.
        experiment: The experiment's name in full.
        status: A status or several: ``"failed"``, ``"failed,crashed"``, ``["failed", "crashed"]``.
        sort: A sort key or several, see `sort_key`.
        limit: How many at most, after sorting.

    Raises:
        QueryError: When an expression, a key, a status or the limit cannot be understood.
    """
    test = predicate(where)
    statuses = parse_status(status)
    keys = None if sort is None else parse_sort(sort)
    limit = check_limit(limit)
    chosen = [
        record
        for record in records
        if (experiment is None or record.experiment == experiment)
        and (statuses is None or record.status in statuses)
        and (test is None or test(record))
    ]
    ordered = newest_first(chosen) if keys is None else sort_records(chosen, keys)
    return ordered[:limit]


class SortKey(NamedTuple):
    """One key to sort by.

    Attributes:
        text: As it was written.
        descending: Whether the greatest comes first.
        field: The record's field.
        read: What takes the value out of a record.
        name: The one name below the field, when it is no deeper path.
    """

    text: str
    descending: bool
    field: str
    read: Callable[[RunRecord], Any]
    name: str | None = None


def sort_key(text: str) -> SortKey:
    """One sort key: a path as in ``where=``, with a leading ``-`` to descend.

    Metric names may follow their dot as they are: ``-metrics.val/loss``.

    Raises:
        QueryError: When its first name is no field of a record, or what follows is no path.
    """
    key = text.strip()
    descending = key.startswith("-")
    path = key.lstrip("-+").strip()
    match = re.match(r"\w+", path)
    if match is None:
        raise QueryError(f"{text!r} is no sort key; write for example -metrics.accuracy or config.lr")
    field, rest = match[0], path[match.end() :]
    if field not in NAMES:
        raise QueryError(f"sort key {text!r}: {unknown_name(field)}")
    if not rest:
        return SortKey(key, descending, field, operator.attrgetter(field))
    steps = parts(field + rest)
    if rest == "." or rest[0] not in ".[" or (steps is None and rest[0] != "."):
        raise bad_path(path)
    if field in WITHOUT_FIELDS and rest[0] == ".":
        raise QueryError(f"sort key {text!r}: {field} has no fields, only a value")
    name = rest[1:] if steps is None else steps[1] if len(steps) == 2 and isinstance(steps[1], str) else None
    return SortKey(key, descending, field, _reader(field, rest, None if steps is None else steps[1:]), name)


def parse_sort(sort: str | Collection[str] | Sequence[SortKey]) -> list[SortKey]:
    """The keys of a comma-separated text, or of several; keys that are parsed already stay."""
    if not isinstance(sort, Iterable):
        raise QueryError(f"sort is a path such as -metrics.accuracy, or several, not {sort!r}")
    keys: list[SortKey] = []
    for given in [sort] if isinstance(sort, str) else sort:
        if isinstance(given, SortKey):
            keys.append(given)
        else:
            keys += [sort_key(each) for each in _COMMA.split(given) if each.strip()]
    if not keys:
        raise QueryError("the sort key is empty; write for example -metrics.accuracy or config.lr")
    return keys


def sort_records(records: Iterable[RunRecord], sort: str | Collection[str] | Sequence[SortKey]) -> list[RunRecord]:
    """The records in the order of the keys: stable; the missing, None and NaN last whichever way it goes.

    Numbers come before times, times before texts, and everything else is in the order of its text.
    """
    ordered = list(records)
    for key in reversed(parse_sort(sort)):
        ordered = arranged(map(key.read, ordered), ordered, descending=key.descending)
    return ordered


def newest_first(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records by their start, latest first; those whose start is lost go by the time in their id."""
    return sorted(records, key=_when, reverse=True)


def predicate(where: str | Callable[[RunRecord], bool] | None) -> Callable[[RunRecord], bool] | None:
    """The test that ``where=`` stands for; None when everything passes."""
    return where if where is None or callable(where) else compile_where(where)


def check_limit(limit: int | None) -> int | None:
    """Refuse what is no number of runs."""
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise QueryError(f"limit is a number of runs, 0 or more, not {limit!r}")
    return limit


def parse_status(status: str | Collection[str] | None) -> frozenset[str] | None:
    """The statuses asked for; None for all."""
    if status is None:
        return None
    if not isinstance(status, Iterable):
        raise QueryError(f"status is one of {', '.join(Status)}, or several of them, not {status!r}")
    asked = frozenset(each.strip() for each in (status.split(",") if isinstance(status, str) else status))
    unknown = asked - set(Status)
    if unknown:
        raise QueryError(f"no status {', '.join(map(repr, sorted(unknown)))}; there are: {', '.join(Status)}")
    return asked


def _when(record: RunRecord) -> tuple[datetime, str]:
    started = record.started_at
    if started is None:
        try:
            started = datetime.strptime(record.run_id[:15] + "+0000", "%Y%m%dT%H%M%S%z")
        except ValueError:
            started = _NEVER
    return started, record.run_id


def _reader(field: str, rest: str, steps: tuple[str | int, ...] | None) -> Callable[[RunRecord], Any]:
    name = rest[1:] if rest[0] == "." else None

    def read(record: RunRecord) -> Any:
        value = getattr(record, field)
        if name is not None and isinstance(value, dict) and name in value:
            return value[name]
        return MISSING if steps is None else look_up(value, steps)

    return read


def arranged(values: Iterable[Any], items: Iterable[T], *, descending: bool) -> list[T]:
    """The items in the order of their values, see `sort_records`."""
    values, items = list(values), list(items)
    kinds = set(map(type, values))
    if kinds == {str} or (kinds and kinds <= {int, float} and not any(map(operator.ne, values, values))):
        order = sorted(range(len(values)), key=values.__getitem__, reverse=descending)
        return [items[place] for place in order]
    groups: tuple[list[tuple[Any, T]], ...] = ([], [], [], [], [])
    for value, item in zip(values, items, strict=True):
        if isinstance(value, (int, float)):
            groups[4 if isinstance(value, float) and math.isnan(value) else 0].append((value, item))
        elif value is None or value is MISSING:
            groups[4].append((value, item))
        elif isinstance(value, datetime):
            groups[1].append((value, item))
        elif isinstance(value, str):
            groups[2].append((value, item))
        else:
            groups[3].append((str(value), item))
    for group in groups[:4]:
        group.sort(key=operator.itemgetter(0), reverse=descending)
    return [item for group in groups for _, item in group]


_COMMA = re.compile(r""",(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")  # outside of quotes
_NEVER = datetime.min.replace(tzinfo=UTC)
