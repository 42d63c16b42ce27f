"""Which ended runs of a database answer a question, and in what order, as far as SQL tells."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard.sinks._sql_numbers import label
from runcard.sinks._sql_where import COLUMNS, Condition, conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from runcard.record import RunRecord
    from runcard.sinks._sql_engine import Transaction

    Test = Callable[[RunRecord], bool]


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


class First(NamedTuple):
    """An order of which SQL can give the first ones: by a column of `runcard_listing`, or by a metric."""

    kind: str
    name: str
    way: str
    finite: bool = False


NEWEST = First("field", "started_at", "")  # the order that all others keep among equals


class Chosen:
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

    def can_tell(self, first: First | None) -> bool:
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

    def first(self, order: First, limit: int) -> list[Any]:
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


_GREATEST = sys.float_info.max
_TEXTS = frozenset(COLUMNS) - {"duration_s", "is_best", "started_at"}
