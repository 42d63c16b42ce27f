"""The language of ``where=`` in SQL, as far as that says exactly the same; the rest stays Python's.

Each term of the outermost `and` becomes a condition of its own. A condition is true or false for every run, never NULL,
and names what it relies on: where the tables do not tell one of these exactly, it is not used. Settings that are
compared with texts by ``<``, calculations, functions and fields that no table has are not translated.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from runcard._operations import COMPARISONS, time_span
from runcard.sinks._sql_numbers import label
from runcard.sinks._sql_records import microseconds
from runcard.values import path_join

if TYPE_CHECKING:
    from datetime import datetime

COLUMNS = {
    **{name: name for name in ("run_id", "status", "experiment", "name", "parent_id", "decision", "host")},
    **{name: name for name in ("objective", "direction", "config_hash", "duration_s", "is_best")},
    "user": "user_name",
    "started_at": "began",
}
"""The record's fields that `runcard_listing` has, by column."""


@dataclass
class Condition:
    """A condition on a row `l` of `runcard_listing`.

    Attributes:
        sql: With parameters by name.
        parameters: Their values.
        relies_on: The fields, settings and metrics (field, name) that must be told exactly.
    """

    sql: str
    parameters: dict[str, Any]
    relies_on: set[tuple[str, str]] = field(default_factory=set)


def conditions(expression: str) -> tuple[list[Condition], bool]:
    """What an expression that `runcard.query.where` accepts comes to in SQL.

    Returns:
        Conditions that hold for every run for which the expression does, and whether they say all of it.
    """
    try:
        tree = ast.parse(expression.replace("\n", " ").replace("\r", " ").strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return [], False
    terms = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And) else [tree]
    found = []
    for number, term in enumerate(terms):
        translation = _Translation(f"w{number}_")
        try:
            sql = translation.test(term)
        except _UntranslatableError:
            continue
        found.append(Condition(sql, translation.parameters, translation.relies_on))
    return found, len(found) == len(terms)


class _UntranslatableError(Exception):
    """SQL does not say the same."""


class _Place(NamedTuple):
    """What a term looks at: a field, a setting, a metric, or the tags."""

    kind: str
    name: str


class _Translation:
    def __init__(self, prefix: str) -> None:
        self.parameters: dict[str, Any] = {}
        self.relies_on: set[tuple[str, str]] = set()
        self._prefix = prefix

    def test(self, node: ast.expr) -> str:
        match node:
            case ast.BoolOp(sign, terms):
                word = " AND " if isinstance(sign, ast.And) else " OR "
                return "(" + word.join([self.test(term) for term in terms]) + ")"
            case ast.UnaryOp(ast.Not(), operand):
                return f"NOT {self.test(operand)}"
            case ast.Compare(left, signs, rights):
                items = [left, *rights]
                links = [self._link(items[n], sign, items[n + 1]) for n, sign in enumerate(signs)]
                return "(" + " AND ".join(links) + ")"
            case ast.Name("is_best"):
                self.relies_on.add(("is_best", ""))
                return "(l.is_best IS TRUE)"
            case _:
                raise _UntranslatableError

    def _link(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> str:
        kind = type(sign)
        if kind in (ast.In, ast.NotIn):
            return self._membership(left, right, negated=kind is ast.NotIn)
        place, other = _place(left), right
        if place is None:
            place, other, kind = _place(right), left, _TURNED.get(kind, ast.In)
        value = _constant(other)
        if place is None or place.kind == "tags" or kind is ast.In:
            raise _UntranslatableError
        return self._compared(place, kind, value)

    def _membership(self, left: ast.expr, right: ast.expr, *, negated: bool) -> str:
        holder = _place(right)
        if holder is not None:
            tag = _constant(left)
            if holder.kind != "tags" or not isinstance(tag, str):
                raise _UntranslatableError
            self.relies_on.add(("tags", ""))
            has = f"EXISTS (SELECT 1 FROM runcard_tags t WHERE t.run_id = l.run_id AND t.tag = {self._text(tag)})"  # noqa: S608 - ours
            return f"NOT {has}" if negated else has
        place = _place(left)
        if place is None or place.kind == "tags" or place.name in ("started_at", "is_best"):
            raise _UntranslatableError
        if not isinstance(right, (ast.List, ast.Tuple, ast.Set)):
            raise _UntranslatableError
        equal = " OR ".join([self._compared(place, ast.Eq, _constant(item)) for item in right.elts]) or _FALSE
        return f"({self._there(place)} AND NOT ({equal}))" if negated else f"({equal})"

    def _compared(self, place: _Place, kind: type[ast.cmpop], value: Any) -> str:
        """A comparison with something missing is false; `!=` and `is not` hold for what is there and not equal."""
        if kind in (ast.NotEq, ast.IsNot):
            same = self._compared(place, ast.Eq if kind is ast.NotEq else ast.Is, value)
            return f"({self._there(place)} AND NOT {same})"
        if kind is ast.Is:
            if value is not None and value is not True and value is not False:
                raise _UntranslatableError
            return self._is(place, value)
        if place.kind == "metrics":
            return self._metric(place, kind, value)
        if place.kind == "config":
            return self._setting(place, kind, value)
        return self._field(place, kind, value)

    def _there(self, place: _Place) -> str:
        """Whether a run has it; a field is always there, if only as None."""
        if place.kind == "field":
            self.relies_on.add((place.name, ""))
            return _TRUE
        return self._row(place, "")

    def _is(self, place: _Place, value: bool | None) -> str:
        if place.kind == "config":
            return self._row(place, f" AND x.kind = '{_SINGLETONS[value]}'")
        if place.kind == "metrics":
            return self._nothing(place)  # it is a number; what is none is not told exactly
        self.relies_on.add((place.name, ""))
        if value is None:
            return f"(l.{COLUMNS[place.name]} IS NULL)" if place.name != "started_at" else _FALSE
        return f"(l.is_best IS {str(value).upper()})" if place.name == "is_best" else _FALSE

    def _metric(self, place: _Place, kind: type[ast.cmpop], value: Any) -> str:
        if not isinstance(value, (int, float)):
            return self._nothing(place)
        return self._row(place, f" AND x.exact IS NULL AND x.last {_SIGNS[kind]} {self._number(value)}")

    def _setting(self, place: _Place, kind: type[ast.cmpop], value: Any) -> str:
        if value is None:
            return self._is(place, None) if kind is ast.Eq else self._nothing(place)
        if isinstance(value, str):
            if kind is not ast.Eq:
                raise _UntranslatableError
            return self._row(place, f" AND x.kind = 'text' AND x.value = {self._text(value)}")
        kinds = "".join(f" OR x.kind = '{name}'" for name, truth in _TRUTHS.items() if COMPARISONS[kind](truth, value))
        number = f"(x.kind = 'number' AND x.number {_SIGNS[kind]} {self._number(value)})"
        return self._row(place, f" AND ({number}{kinds})")

    def _field(self, place: _Place, kind: type[ast.cmpop], value: Any) -> str:
        self.relies_on.add((place.name, ""))
        column = f"l.{COLUMNS[place.name]}"
        if place.name == "started_at":
            return self._time(kind, value)
        if value is None:
            return f"({column} IS NULL)" if kind is ast.Eq else _FALSE
        if place.name == "is_best":
            if kind is not ast.Eq or not isinstance(value, bool):
                raise _UntranslatableError
            return f"({column} IS {str(value).upper()})"
        if place.name == "duration_s":
            if isinstance(value, str):
                return _FALSE
            return f"({column} IS NOT NULL AND {column} {_SIGNS[kind]} {self._number(value)})"
        if not isinstance(value, str):
            return _FALSE
        if kind is not ast.Eq:
            raise _UntranslatableError  # the order of texts is the database's own
        return f"({column} IS NOT NULL AND {column} = {self._text(value)})"

    def _time(self, kind: type[ast.cmpop], value: Any) -> str:
        span = time_span(value) if isinstance(value, str) else None
        if span is None:
            raise _UntranslatableError
        begin, end = (self._moment(moment) for moment in span)
        if kind is ast.Eq:
            return f"(l.began >= {begin} AND l.began < {end})"
        sign, bound = {ast.Lt: ("<", begin), ast.LtE: ("<", end), ast.Gt: (">=", end), ast.GtE: (">=", begin)}[kind]
        return f"(l.began {sign} {bound})"

    def _nothing(self, place: _Place) -> str:
        self._there(place)
        return _FALSE

    def _row(self, place: _Place, more: str) -> str:
        """Whether a run has a row for a setting or a metric, of which more is true."""
        self.relies_on.add((place.kind, label(place.name)))
        if place.kind == "config":
            self.relies_on.update(("opaque", label(above)) for above in _above(place.name))
        table, key = ("runcard_config", "path") if place.kind == "config" else ("runcard_metrics", "name")
        name = self._text(place.name)
        return f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_id = l.run_id AND x.{key} = {name}{more})"  # noqa: S608 - ours

    def _number(self, value: float) -> str:
        if isinstance(value, int) and abs(value) > 2**53:
            raise _UntranslatableError
        return self._parameter(float(value))

    def _moment(self, moment: datetime) -> str:
        return self._parameter(microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))

    def _text(self, text: str) -> str:
        if "\0" in text or not _is_utf8(text):
            raise _UntranslatableError
        return self._parameter(text)

    def _parameter(self, value: Any) -> str:
        name = f"{self._prefix}{len(self.parameters)}"
        self.parameters[name] = value
        return f":{name}"


def _place(node: ast.expr) -> _Place | None:
    match node:
        case ast.Name("tags"):
            return _Place("tags", "")
        case ast.Name(name) if name in COLUMNS:
            return _Place("field", name)
    steps: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            steps.append(node.attr)
        elif isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            if "." in node.slice.value or "[" in node.slice.value:  # it may be a path
                return None
            steps.append(node.slice.value)
        else:
            return None
        node = node.value
    if not isinstance(node, ast.Name) or not steps or any(step.startswith("$") for step in steps):
        return None
    if node.id == "metrics" and len(steps) == 1:
        return _Place("metrics", steps[0])
    if node.id == "config":
        path = ""
        for step in reversed(steps):
            path = path_join(path, step)
        return _Place("config", path)
    return None


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value) if value is None or isinstance(value, (bool, int, float, str)):
            return value
        case ast.Name("inf"):
            return math.inf
        case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, ast.Constant(int() | float() as value)):
            return -value if isinstance(sign, ast.USub) else +value
        case ast.UnaryOp(ast.USub(), ast.Name("inf")):
            return -math.inf
        case _:
            raise _UntranslatableError


def _above(path: str) -> list[str]:
    """The paths of the mappings that a path leads through."""
    from runcard._paths import parts

    steps = parts(path) or ()
    found, above = [], ""
    for step in steps[:-1]:
        above = path_join(above, step)
        found.append(above)
    return found


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_FALSE, _TRUE = "(1 = 0)", "(1 = 1)"
_SIGNS: dict[type[ast.cmpop], str] = {ast.Eq: "=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
_TRUTHS = {"true": True, "false": False}
_SINGLETONS = {None: "none", True: "true", False: "false"}
