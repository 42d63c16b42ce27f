"""What the language of ``where=`` calculates: total functions over values, `MISSING` among them, that never raise."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from runcard._paths import MISSING, find


def inside(value: Any, name: str) -> Any:
    """``value.name``: only ever an entry of a mapping."""
    return value.get(name, MISSING) if isinstance(value, Mapping) else MISSING


def subscripted(value: Any, key: Any) -> Any:
    """``value[key]``."""
    return find(value, key) if type(key) in (str, int) else MISSING


def called_with(function: Callable[..., Any], arguments: list[Any]) -> Any:
    """One of `FUNCTIONS` applied."""
    try:
        return function(*arguments)
    except (ArithmeticError, ValueError, TypeError):
        return MISSING


def calculated(calculate: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """One of `ARITHMETIC` applied: on numbers alone, and within bounds."""
    if not (is_number(left) and is_number(right)):
        return MISSING
    try:
        return calculate(left, right)
    except (ArithmeticError, ValueError):  # by zero, out of range
        return MISSING


def _power(base: int | float, exponent: int | float) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        bits = base.bit_length() * abs(exponent)
        if bits > 4096:
            raise OverflowError
    result = base**exponent
    return MISSING if isinstance(result, complex) else result


def _product(left: int | float, right: int | float) -> Any:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 1 << 16:
        raise OverflowError
    return left * right


ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _product,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, datetime) or isinstance(right, datetime):
        return _in_time(left, right, lambda value, begin, end: begin <= value < end)
    try:
        return bool(left == right)
    except RecursionError:
        return False


def _in_time(left: Any, right: Any, test: Callable[[datetime, datetime, datetime], bool]) -> bool:
    """Compare a time with a time or a text, which stands for the span from its begin up to its end."""
    if isinstance(left, datetime) and isinstance(right, (str, datetime)):
        span = time_span(right)
        try:
            return span is not None and test(left, *span)
        except TypeError:  # a time without a zone, in a record not of ours
            return False
    return False


def time_span(text: str | datetime) -> tuple[datetime, datetime] | None:
    """The time that a text stands for, from its begin up to its end; None when it is no time."""
    try:
        if isinstance(text, datetime):
            return text, text + timedelta(microseconds=1)
        begin = datetime.fromisoformat(text.strip())
        begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
        whole_day = len(text.strip()) <= len("2026-11-01")
        return begin, begin + (timedelta(days=1) if whole_day else timedelta(microseconds=1))
    except (ValueError, OverflowError):
        return None


def _ordered(compare: Callable[[Any, Any], Any], in_time: Callable[[datetime, datetime, datetime], bool]) -> Any:
    turned = _TURNED[compare]

    def test(left: Any, right: Any) -> bool:
        if isinstance(left, datetime):
            return _in_time(left, right, in_time)
        if isinstance(right, datetime):
            return bool(COMPARISONS[turned](right, left))
        try:
            return bool(compare(left, right))
        except (TypeError, RecursionError):
            return False  # values of different types are in no order

    return test


def _unequal(left: Any, right: Any) -> bool:
    return not _equal(left, right)


def _contained(item: Any, holder: Any) -> bool:
    if isinstance(holder, str):
        return isinstance(item, str) and item in holder
    if isinstance(holder, Mapping):
        return type(item) in (str, int) and find(holder, item) is not MISSING
    if isinstance(holder, (list, tuple)):
        return any(_equal(item, each) for each in holder if each is not MISSING)
    return False


def _known(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """What is missing compares false."""
    return lambda left, right: left is not MISSING and right is not MISSING and compare(left, right)


_TURNED: dict[Any, type[ast.cmpop]] = {
    operator.lt: ast.Gt,
    operator.le: ast.GtE,
    operator.gt: ast.Lt,
    operator.ge: ast.LtE,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: _known(lambda left, right: _equal(right, left) if isinstance(right, datetime) else _equal(left, right)),
    ast.NotEq: _known(
        lambda left, right: _unequal(right, left) if isinstance(right, datetime) else _unequal(left, right)
    ),
    ast.Lt: _known(_ordered(operator.lt, lambda value, begin, _: value < begin)),
    ast.LtE: _known(_ordered(operator.le, lambda value, _, end: value < end)),
    ast.Gt: _known(_ordered(operator.gt, lambda value, _, end: value >= end)),
    ast.GtE: _known(_ordered(operator.ge, lambda value, begin, _: value >= begin)),
    ast.In: _known(_contained),
    ast.NotIn: _known(lambda item, holder: not _contained(item, holder)),
    ast.Is: _known(operator.is_),
    ast.IsNot: _known(operator.is_not),
}


def is_number(value: Any) -> bool:
    """Whether a value can be calculated with; True and False count as 1 and 0."""
    return isinstance(value, (int, float))


def _length(value: Any) -> Any:
    return len(value) if isinstance(value, (str, list, tuple, Mapping)) else MISSING


def _absolute(value: Any) -> Any:
    return abs(value) if is_number(value) else MISSING


def _rounded(value: Any, digits: Any = 0) -> Any:
    if not is_number(value) or not isinstance(digits, int) or not math.isfinite(value):
        return MISSING
    return round(value, max(-400, min(digits, 400)))


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else MISSING


def _starts(value: Any, head: Any) -> Any:
    return value.startswith(head) if isinstance(value, str) and isinstance(head, str) else MISSING


def _ends(value: Any, tail: Any) -> Any:
    return value.endswith(tail) if isinstance(value, str) and isinstance(tail, str) else MISSING


def _is_nan(value: Any) -> Any:
    return isinstance(value, float) and math.isnan(value) if is_number(value) else MISSING


def _least(*values: Any) -> Any:
    return _extreme(min, values)


def _most(*values: Any) -> Any:
    return _extreme(max, values)


def _extreme(choose: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = tuple(values[0])
    return choose(values) if values and all(map(is_number, values)) else MISSING


FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "abs": (_absolute, 1, 1),
    "len": (_length, 1, 1),
    "min": (_least, 1, 99),
    "max": (_most, 1, 99),
    "round": (_rounded, 1, 2),
    "lower": (_lower, 1, 1),
    "startswith": (_starts, 2, 2),
    "endswith": (_ends, 2, 2),
    "isnan": (_is_nan, 1, 1),
}
"""Name → what it does, and how few and how many arguments it takes. The texts' three may be written as methods too."""
